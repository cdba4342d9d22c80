// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/int8.hpp
//
// int8<Group>: each row alone in 8-bit integers, one scale for Group channels or, by default, for the whole head.
//
// Paper     none; the signed uniform grid in general use
// Formula   step = max|x| / 127     n = round(x / step)     x' = step * n
// Shapes    tile: codes n + 128 in quads, step [dim / Group, rows] f16
//           in layout::rows: codes n [rows, dim] int8, step [rows, dim / Group] f16
// Differs   step is rounded up to 16 bit before codes are found, so that no number is clipped
// Cost      8 + 16 / Group bits per number: 8.125 for a whole head of 128
// Needs     a head dimension that is a multiple of Group, or smaller
// With      |x - x'| <= step / 2; zero is exact
#pragma once
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/grouped.hpp>

namespace tersekv {

template <int Group = 0, class Layout = layout::quads>
struct int8 {
  using role = tersekv::role::codec;
  using key_format = grouped_format<grid::symmetric<8>, Group, reopened, typename Layout::keys>;
  using value_format = grouped_format<grid::symmetric<8>, Group, reopened, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "int8";
  static constexpr std::array<int, 1> structure = {Group};
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return key_format("int8"); }
  value_format for_values() const { return value_format("int8"); }
};

}  // namespace tersekv
