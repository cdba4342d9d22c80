// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/ggml_q4_0.hpp
//
// q4_0: 4-bit blocks of 32 channels, those of ggml (llama.cpp, whisper.cpp), byte for byte in layout::rows.
//
// Paper     none; quantize_row_q4_0_ref of github.com/ggml-org/ggml
// Formula   m = the number of largest magnitude, with its sign     d = m / -8
//           u = min(15, floor(x / d + 8.5))     x' = f16(d) * (u - 8)
// Shapes    tile: codes in quads, d [dim / 32, rows] f16
//           in layout::rows: [rows, dim / 32] of { d f16, codes [16]: channel j low, channel j + 16 high }, a ggml row
// Differs   d stays finite where f16 would overflow (max|x| > 524032)
// Cost      4.5 bits per number
// Needs     a head dimension that is a multiple of 32
// With      |x - x'| <= |d| / 2, up to |d| at the end opposite to m, plus 8 |d - f16(d)|
#pragma once
#include <cstdint>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/ggml_blocks.hpp>

namespace tersekv {

namespace grid {

/// x' = step * (u - 8), u = 0 .. 15; the step has the opposite sign of the number of largest magnitude.
struct ggml4 {
  static constexpr const char* name = "q4_0";
  static constexpr int bits = 4, numbers = 1, offset = 8, block = 32;
  static constexpr std::uint32_t bias_flip = 0;

  TERSEKV_HD static float step(float most) { return most / -8.0f; }
  TERSEKV_HD static float inverse(float step) {
    const float x = step != 0 ? 1.0f / step : 0.0f;
    return x > 3e38f || x < -3e38f ? 0.0f : x;  // |step| far below the smallest f16
  }
  TERSEKV_HD static std::uint32_t code(float x, float, float inverse) {
    const float scaled = product(x, inverse);  // within +-8; from 6.5 on the code is 15
    return static_cast<std::uint32_t>(static_cast<int>((scaled < 7.0f ? scaled : 7.0f) + 8.5f));
  }
  TERSEKV_HD static constexpr float value(std::uint32_t u, float step, float) {
    return step * static_cast<float>(static_cast<std::int32_t>(u) - offset);
  }
};

}  // namespace grid

template <class Layout = layout::quads>
struct basic_q4_0 {
  using role = tersekv::role::codec;
  using key_format = ggml_format<grid::ggml4, typename Layout::keys>;
  using value_format = ggml_format<grid::ggml4, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "q4_0";
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return key_format{}; }
  value_format for_values() const { return value_format{}; }
};
using q4_0 = basic_q4_0<>;

}  // namespace tersekv
