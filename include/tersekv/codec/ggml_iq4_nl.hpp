// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/ggml_iq4_nl.hpp
//
// iq4_nl: blocks of 32 channels on 16 levels that lie denser around zero, those of ggml (llama.cpp), byte for byte
// in layout::rows.
//
// Paper     none; quantize_row_iq4_nl_ref of github.com/ggml-org/ggml
// Formula   m = the number of largest magnitude, with its sign     u = the level nearest to -127 x / m
//           d = sum x^2 l_u x / sum x^2 l_u^2     x' = f16(d) * l_u
//           l = -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
// Shapes    tile: codes in quads, d [dim / 32, rows] f16
//           in layout::rows: [rows, dim / 32] of { d f16, codes [16]: channel j low, channel j + 16 high }, a ggml row
// Differs   a block of numbers below 1e-15 has codes 8 where ggml leaves them open; d stays finite where f16, or one of
//           the sums, would overflow. Codes stay those of the first scale, as for ggml's caches
// Cost      4.5 bits per number
// Needs     a head dimension that is a multiple of 32
// With      |x - x'| <= 0.22 max|x|; zero becomes d. On normal numbers a sixth less squared error than q4_0, for five
//           times its time to write
#pragma once
#include <array>
#include <cstdint>
#include <limits>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/ggml_blocks.hpp>

namespace tersekv {

namespace detail {
/// Levels first .. first + 8, one to a byte. Device code has no tables.
constexpr std::uint64_t eight_levels(const std::array<std::int8_t, 16>& levels, std::size_t first) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < 8; ++i) bytes |= std::uint64_t{static_cast<std::uint8_t>(levels[first + i])} << (8 * i);
  return bytes;
}
}  // namespace detail

namespace grid {

/// x' = step * level[u], u = 0 .. 15; Levels: `name` and 16 ascending `levels`, of which the first is largest in
/// magnitude.
template <class Levels>
struct levels16 {
  static constexpr const char* name = Levels::name;
  static constexpr int bits = 4, numbers = 1, offset = 0, block = 32;
  static constexpr std::uint32_t bias_flip = 0;
  static constexpr std::array<std::int8_t, 16> table = Levels::levels;

  TERSEKV_HD static float step(float most) { return most < 1e-15f && most > -1e-15f ? 0.0f : most / first; }
  TERSEKV_HD static float inverse(float step) { return step != 0 ? 1 / step : 0.0f; }
  TERSEKV_HD static std::uint32_t code(float x, float, float inverse) { return nearest(product(x, inverse)); }
  struct refined_step {
    float dot = 0, norm = 0;  // summed in ggml's order
    TERSEKV_HD void add(float x, std::uint32_t u) {
      const float l = level(u), weight = product(x, x), part = product(weight, l);
      dot += product(part, x);
      norm += product(part, l);
    }
    TERSEKV_HD float step(float first) const {
      const bool finite = norm <= largest_float && dot <= largest_float && dot >= -largest_float;
      return first != 0 && finite ? dot / norm : first;
    }
  };
  TERSEKV_HD static constexpr float value(std::uint32_t u, float step, float) { return step * level(u); }
  /// Of two levels at the same distance the larger.
  TERSEKV_HD static constexpr std::uint8_t nearest(float x) {
    int u = 0;
    for (std::uint32_t k = 0; k < 15; ++k) u += x >= 0.5f * (level(k) + level(k + 1));  // exact
    return static_cast<std::uint8_t>(u);
  }

 private:
  static constexpr float first = table[0], largest_float = std::numeric_limits<float>::max();
  static constexpr std::uint64_t lower = detail::eight_levels(table, 0), upper = detail::eight_levels(table, 8);
  TERSEKV_HD static constexpr float level(std::uint32_t u) {
    return static_cast<float>(static_cast<std::int8_t>((u < 8 ? lower : upper) >> (u % 8 * 8)));
  }
};

struct iq4_nl_levels {
  static constexpr const char* name = "iq4_nl";
  static constexpr std::array<std::int8_t, 16> levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                         1,    13,   25,  38,  53,  69,  89,  113};
};

}  // namespace grid

template <class Layout = layout::quads>
struct basic_iq4_nl {
  using role = tersekv::role::codec;
  using grid = tersekv::grid::levels16<tersekv::grid::iq4_nl_levels>;
  using key_format = ggml_format<grid, typename Layout::keys>;
  using value_format = ggml_format<grid, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "iq4_nl";
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return key_format{}; }
  value_format for_values() const { return value_format{}; }
};
using iq4_nl = basic_iq4_nl<>;

}  // namespace tersekv
