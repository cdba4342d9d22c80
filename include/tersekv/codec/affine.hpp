// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/affine.hpp
//
// affine<Bits, Group>: each row alone, groups of channels between their minimum and maximum, Bits bits a number.
//
// Paper     the asymmetric uniform grid of Liu et al., "KIVI", ICML 2024, arXiv:2402.02750 (appendix), and of others
// Formula   low = min(x)   step = (max(x) - low) / (2^Bits - 1)   u = round((x - low) / step)   x' = step * u + low
// Shapes    tile: codes in quads, step, low [dim / Group, rows] f16
//           in layout::rows: codes [rows, dim * Bits / 8], step, low [rows, dim / Group] f16
// Differs   low is rounded down and step up to 16 bit before codes are found, so that no number is clipped
// Cost      Bits + 32 / Group bits per number
// Needs     a head dimension that is a multiple of Group, or smaller; Group 0 = the whole head
// With      |x - x'| <= step / 2; keys with large channels want kivi or through<hadamard, ...> instead
#pragma once
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/grouped.hpp>

namespace tersekv {

template <int Bits, int Group = 0, class Layout = layout::quads>
struct affine {
  using role = tersekv::role::codec;
  using key_format = grouped_format<grid::affine<Bits>, Group, reopened, typename Layout::keys>;
  using value_format = grouped_format<grid::affine<Bits>, Group, reopened, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "affine";
  static constexpr std::array<int, 2> structure = {Bits, Group};
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return key_format("affine"); }
  value_format for_values() const { return value_format("affine"); }
};

}  // namespace tersekv
