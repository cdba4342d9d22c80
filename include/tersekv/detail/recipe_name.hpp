// SPDX-License-Identifier: Apache-2.0
// Names and structure numbers of policies that wrap others: "int4" + "@sinks" -> "int4@sinks"; {32} + {4} -> {32, 4}.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace tersekv::detail {

template <const std::string_view&... Parts>
struct joined_name {
  static constexpr auto letters = [] {
    std::array<char, (Parts.size() + ... + 0)> out{};
    auto to = out.begin();
    ((to = std::copy(Parts.begin(), Parts.end(), to)), ...);
    return out;
  }();
  static constexpr std::string_view value{letters.data(), letters.size()};
};

/// The template integers of a policy as it states them, or none.
template <class Policy>
constexpr auto structure_of() {
  if constexpr (requires { Policy::structure; }) return Policy::structure;
  else return std::array<int, 0>{};
}
template <std::size_t A, std::size_t B>
constexpr std::array<int, A + B> joined(const std::array<int, A>& a, const std::array<int, B>& b) {
  std::array<int, A + B> out{};
  std::copy(b.begin(), b.end(), std::copy(a.begin(), a.end(), out.begin()));
  return out;
}

}  // namespace tersekv::detail
