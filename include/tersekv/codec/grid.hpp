// SPDX-License-Identifier: Apache-2.0
// Element grids: which numbers the codes of one group stand for. Host and device; loops belong to the formats.
//
// Promises: codes are found with the stored 16-bit metadata; a group without range has step 0 and decodes to its
// minimum; the step is never rounded down and the minimum never up, so nothing is clipped and every number is within
// half a stored step; metadata saturates, so finite numbers stay finite; numbers become integers after the clamp.
//
// A grid states what readers of codes build on:
//   bits, numbers    of a code; stored for a group: 1 = step, 2 = step and low
//   bias_flip        layouts of quads write u = code ^ bias_flip, so that u counts from 0
//   offset           one number: x' = step * (u - offset); two: x' = step * u + low
//   table            only where levels are not uniform: x' = step * table[u]
// and fit, code and value below. The grids of ggml have `block`, the channels of every group, and instead of fit
//   step(most)       of the number of largest magnitude, with its sign, before it is rounded to 16 bit
//   inverse(step)    for code, which knows the step that is not rounded
//   refined_step     optional: add(x, u) in order of channels, then step(first) is the step that is stored
#pragma once
#include <cstdint>

#include <tersekv/detail/bit_cast.hpp>
#include <tersekv/number.hpp>

namespace tersekv::grid {

/// Added to a float of magnitude below 2^22, rounds it to an integer, ties to even, which then stands in the low bits.
inline constexpr float rounder = 12582912.0f;  // 1.5 * 2^23
TERSEKV_HD constexpr std::uint32_t rounded(float x) { return detail::bit_cast<std::uint32_t>(x + rounder); }

TERSEKV_HD constexpr float clamp(float x, float low, float high) {
  const float y = x < low ? low : x;
  return y > high ? high : y;
}

/// The smallest half that is not below x >= 0; 65504 above that.
TERSEKV_HD constexpr half round_up(float x) {
  half h = from_float<half>(x);
  if (to_float(h) < x && h.bits < 0x7bffu) ++h.bits;
  return h;
}
/// The largest half that is not above x; -65504 below that.
TERSEKV_HD constexpr half round_down(float x) {
  half h = from_float<half>(x);
  if (!(to_float(h) > x)) return h;
  if ((h.bits & 0x8000u) == 0)
    --h.bits;
  else if (h.bits != 0xfbffu)
    ++h.bits;
  return h;
}

/// What is stored of a group; `low` only where the grid has one.
struct scale {
  half step, low;
};
/// 1 / step for encoding; zero for a group without range.
TERSEKV_HD constexpr float inverse(float step) { return step > 0 ? 1.0f / step : 0.0f; }

/// x' = step * u + low, u = 0 .. 2^Bits - 1.
template <int Bits>
struct affine {
  static_assert(Bits >= 2 && Bits <= 8, "tersekv: a grid has 2 to 8 bits");
  static constexpr const char* name = "affine";
  static constexpr int bits = Bits;
  static constexpr int numbers = 2, offset = 0;
  static constexpr std::uint32_t bias_flip = 0;
  static constexpr std::uint32_t top = (1u << Bits) - 1;

  /// smallest, largest of the group.
  TERSEKV_HD static constexpr scale fit(float smallest, float largest) {
    smallest += 0.0f;  // not -0: which of two zeros is the smallest depends on the order of comparing
    if (!(largest > smallest)) return {half{}, from_float<half>(smallest)};
    const half low = round_down(smallest);
    return {round_up((largest - to_float(low)) / static_cast<float>(top)), low};
  }
  TERSEKV_HD static constexpr std::uint32_t code(float x, float low, float inverse) {
    return rounded(clamp((x - low) * inverse, 0.0f, static_cast<float>(top))) & top;
  }
  TERSEKV_HD static float value(std::uint32_t u, float step, float low) {
    return product(step, static_cast<float>(static_cast<std::int32_t>(u))) + low;
  }
};

/// x' = step * n, n = -(2^(Bits-1) - 1) .. 2^(Bits-1) - 1 in two's complement.
template <int Bits>
struct symmetric {
  static_assert(Bits >= 2 && Bits <= 8, "tersekv: a grid has 2 to 8 bits");
  static constexpr const char* name = "symmetric";
  static constexpr int bits = Bits;
  static constexpr int numbers = 1, offset = 1 << (Bits - 1);
  static constexpr std::uint32_t sign = 1u << (Bits - 1), mask = (1u << Bits) - 1, bias_flip = sign;

  TERSEKV_HD static constexpr scale fit(float smallest, float largest) {
    const float magnitude = largest > -smallest ? largest : -smallest;
    if (!(magnitude > 0)) return {};
    return {round_up(magnitude / static_cast<float>(sign - 1)), half{}};
  }
  TERSEKV_HD static constexpr std::uint32_t code(float x, float, float inverse) {
    constexpr float levels = static_cast<float>(sign - 1);
    return rounded(clamp(x * inverse, -levels, levels)) & mask;
  }
  TERSEKV_HD static constexpr float value(std::uint32_t u, float step, float) {
    return step * static_cast<float>(static_cast<std::int32_t>(u ^ sign) - static_cast<std::int32_t>(sign));
  }
};

}  // namespace tersekv::grid
