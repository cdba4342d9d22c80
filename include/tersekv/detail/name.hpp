// SPDX-License-Identifier: Apache-2.0
// Names and template numbers of policies that wrap others, joined at compile time: joined_name<&Inner::name, &suffix>;
// "int4" + "@sinks" -> "int4@sinks", {32} + {4} -> {32, 4}.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace tersekv::detail {

template <const std::string_view*... Parts>
struct join_names {
  static constexpr auto letters = [] {
    std::array<char, (Parts->size() + ... + 0)> out{};
    std::size_t n = 0;
    const auto add = [&](std::string_view part) {
      for (const char c : part) out[n++] = c;
    };
    (add(*Parts), ...);
    return out;
  }();
  static constexpr std::string_view value{letters.data(), letters.size()};
};
template <const std::string_view*... Parts>
inline constexpr std::string_view joined_name = join_names<Parts...>::value;

/// The template numbers that a policy states, or none.
template <class Policy>
constexpr auto structure_of() {
  if constexpr (requires { Policy::structure; })
    return Policy::structure;
  else
    return std::array<int, 0>{};
}
template <std::size_t A, std::size_t B>
constexpr std::array<int, A + B> joined(const std::array<int, A>& a, const std::array<int, B>& b) {
  std::array<int, A + B> out{};
  std::copy(b.begin(), b.end(), std::copy(a.begin(), a.end(), out.begin()));
  return out;
}

}  // namespace tersekv::detail
