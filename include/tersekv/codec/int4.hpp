// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/int4.hpp
//
// int4<Group>: each row alone in 4 bits, between the minimum and the maximum of Group channels.
//
// Paper     the grid of Liu et al., "KIVI", ICML 2024, arXiv:2402.02750, along channels for keys and values
// Formula   low = min(x)     step = (max(x) - low) / 15     u = round((x - low) / step)     x' = step * u + low
// Shapes    tile: codes in quads, step, low [dim / Group, rows] f16
//           in layout::rows: codes [rows, dim / 2], the even channel in the low half, step, low [rows, dim / Group] f16
// Differs   low is rounded down and step up to 16 bit before codes are found, so that no number is clipped
// Cost      4 + 32 / Group bits per number: 5 in groups of 32, 4.25 for a whole head of 128 (Group 0)
// Needs     a head dimension that is a multiple of Group, or smaller
// With      |x - x'| <= step / 2; keys with large channels want kivi<4> or through<hadamard, int4<>> instead
#pragma once
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/grouped.hpp>

namespace tersekv {

template <int Group = 32, class Layout = layout::quads>
struct int4 {
  using role = tersekv::role::codec;
  using key_format = grouped_format<grid::affine<4>, Group, reopened, typename Layout::keys>;
  using value_format = grouped_format<grid::affine<4>, Group, reopened, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "int4";
  static constexpr std::array<int, 1> structure = {Group};
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return key_format("int4"); }
  value_format for_values() const { return value_format("int4"); }
};

}  // namespace tersekv
