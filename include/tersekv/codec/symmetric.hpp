// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/symmetric.hpp
//
// symmetric<Bits, Group>: each row alone, groups of channels scaled by their largest magnitude, Bits bits a number.
//
// Paper     none; the signed uniform grid in general use
// Formula   step = max|x| / (2^(Bits-1) - 1)     n = round(x / step)     x' = step * n
// Shapes    tile: codes n + 2^(Bits-1) in quads, step [dim / Group, rows] f16
//           in layout::rows: codes n [rows, dim * Bits / 8] in two's complement, step [rows, dim / Group] f16
// Differs   step is rounded up to 16 bit before codes are found, so that no number is clipped
// Cost      Bits + 16 / Group bits per number
// Needs     a head dimension that is a multiple of Group, or smaller; Group 0 = the whole head
// With      |x - x'| <= step / 2; zero is exact
#pragma once
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/grouped.hpp>

namespace tersekv {

template <int Bits, int Group = 0, class Layout = layout::quads>
struct symmetric {
  using role = tersekv::role::codec;
  using key_format = grouped_format<grid::symmetric<Bits>, Group, reopened, typename Layout::keys>;
  using value_format = grouped_format<grid::symmetric<Bits>, Group, reopened, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "symmetric";
  static constexpr std::array<int, 2> structure = {Bits, Group};
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return key_format("symmetric"); }
  value_format for_values() const { return value_format("symmetric"); }
};

}  // namespace tersekv
