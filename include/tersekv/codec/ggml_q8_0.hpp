// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/ggml_q8_0.hpp
//
// q8_0: 8-bit blocks of 32 channels, those of ggml (llama.cpp, whisper.cpp), byte for byte in layout::rows.
//
// Paper     none; quantize_row_q8_0_ref of github.com/ggml-org/ggml
// Formula   d = max|x| / 127     n = round(x / d), halves away from zero     x' = f16(d) * n
// Shapes    tile: codes n + 128 in quads, d [dim / 32, rows] f16
//           in layout::rows: [rows, dim / 32] of { d f16, n int8 [32] }, a ggml row
// Differs   d stays finite where f16 would overflow (max|x| > 8.3e6)
// Cost      8.5 bits per number
// Needs     a head dimension that is a multiple of 32
// With      |x - x'| <= d / 2 + 127 |d - f16(d)|: codes are found before d is rounded
#pragma once
#include <cstdint>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/ggml_blocks.hpp>

namespace tersekv {

namespace grid {

/// x' = step * n, n = -127 .. 127 in two's complement.
struct ggml8 {
  static constexpr const char* name = "q8_0";
  static constexpr int bits = 8, numbers = 1, offset = 128, block = 32;
  static constexpr std::uint32_t bias_flip = 128;

  TERSEKV_HD static float step(float most) { return (most < 0 ? -most : most) / 127.0f; }
  TERSEKV_HD static float inverse(float step) {
    const float x = step > 0 ? 1.0f / step : 0.0f;
    return x > 3e38f ? 0.0f : x;  // step far below the smallest f16
  }
  TERSEKV_HD static std::uint32_t code(float x, float, float inverse) {
    const float scaled = product(x, inverse);  // within +-127, or some roundings above
    const int whole = static_cast<int>(scaled);
    const float rest = scaled - static_cast<float>(whole);  // halves go away from zero
    return static_cast<std::uint8_t>(whole + static_cast<int>(rest + rest));
  }
  TERSEKV_HD static constexpr float value(std::uint32_t u, float step, float) {
    return step * static_cast<float>(static_cast<std::int32_t>(u ^ bias_flip) - offset);
  }
};

}  // namespace grid

template <class Layout = layout::quads>
struct basic_q8_0 {
  using role = tersekv::role::codec;
  using key_format = ggml_format<grid::ggml8, typename Layout::keys>;
  using value_format = ggml_format<grid::ggml8, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "q8_0";
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return key_format{}; }
  value_format for_values() const { return value_format{}; }
};
using q8_0 = basic_q8_0<>;

}  // namespace tersekv
