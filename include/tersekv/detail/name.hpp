// SPDX-License-Identifier: Apache-2.0
// Names of wrapped policies, joined at compile time: joined_name<Inner::name, suffix>.
#pragma once
#include <array>
#include <string_view>

namespace tersekv::detail {

template <const std::string_view&... Parts>
struct join_names {
  static constexpr auto letters = [] {
    std::array<char, (Parts.size() + ... + 0)> out{};
    std::size_t n = 0;
    const auto add = [&](std::string_view part) {
      for (const char c : part) out[n++] = c;
    };
    (add(Parts), ...);
    return out;
  }();
  static constexpr std::string_view value{letters.data(), letters.size()};
};
template <const std::string_view&... Parts>
inline constexpr std::string_view joined_name = join_names<Parts...>::value;

}  // namespace tersekv::detail
