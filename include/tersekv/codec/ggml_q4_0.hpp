// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/ggml_q4_0.hpp
//
// q4_0: 4-bit blocks of 32 channels, byte for byte those of ggml (llama.cpp, whisper.cpp).
//
// Paper     none; quantize_row_q4_0_ref of github.com/ggml-org/ggml
// Formula   m = the number of largest magnitude, with its sign     d = m / -8
//           u = min(15, floor(x / d + 8.5))     x' = f16(d) * (u - 8)
// Shapes    tile [rows, dim / 32] of { d f16, codes [16]: channel j low, channel j + 16 high }: a row is a ggml row
// Differs   d stays finite where f16 would overflow (max|x| > 524032)
// Cost      4.5 bits per number
// Needs     a head dimension that is a multiple of 32
// With      |x - x'| <= |d| / 2, up to |d| at the end opposite to m, plus 8 |d - f16(d)|
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/layout.hpp>
#include <tersekv/detail/pack.hpp>
#include <tersekv/detail/planes.hpp>

namespace tersekv {

template <class Layout>
struct q4_0_format;

template <>
struct q4_0_format<layout::rows> : detail::row_planes<q4_0_format<layout::rows>> {
  static constexpr int span = 1;
  static constexpr bool opens = true;
  static constexpr int block = 32;
  static constexpr std::size_t block_bytes = 2 + block / 2;

  void check(int dim) const { detail::require_multiple("q4_0", dim, block); }
  std::array<std::size_t, 1> planes(int dim) const { return {static_cast<std::size_t>(dim / block) * block_bytes}; }

  void encode(const float* x, int dim, std::byte* tile, int, int first, int count) const {
    std::byte* to = tile + planes(dim)[0] * static_cast<std::size_t>(first);
    for (const float* end = x + count * dim; x != end; x += block, to += block_bytes) {
      const float d = largest_magnitude(x) / -8.0f;
      float inverse = d != 0 ? 1.0f / d : 0.0f;
      if (inverse > 3e38f || inverse < -3e38f) inverse = 0;  // |d| far below the smallest f16
      detail::store_half(to, from_float<half>(d));
      std::array<std::uint8_t, block> u;
      for (int i = 0; i < block; ++i) {
        const float scaled = x[i] * inverse;  // within +-8; from 6.5 on the code is 15
        u[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>((scaled < 7.0f ? scaled : 7.0f) + 8.5f);
      }
      std::array<std::uint8_t, block / 2> codes;
      for (std::size_t j = 0; j < codes.size(); ++j)
        codes[j] = static_cast<std::uint8_t>(u[j] | u[j + codes.size()] << 4);
      std::memcpy(to + 2, codes.data(), codes.size());
    }
  }
  void decode(const std::byte* tile, int, int first, int count, int dim, float* x) const {
    const std::byte* from = tile + planes(dim)[0] * static_cast<std::size_t>(first);
    for (const float* end = x + count * dim; x != end; x += block, from += block_bytes) {
      const float d = detail::load_half(from);
      std::array<std::uint8_t, block / 2> codes;
      std::memcpy(codes.data(), from + 2, codes.size());
      for (int j = 0; j < block / 2; ++j) {
        const int both = codes[static_cast<std::size_t>(j)];
        x[j] = d * static_cast<float>((both & 15) - 8);
        x[j + block / 2] = d * static_cast<float>((both >> 4) - 8);
      }
    }
  }

 private:
  /// The first of them, as in ggml.
  static float largest_magnitude(const float* x) {
    const auto [smallest, largest] = detail::range_of(x, block);
    if (largest != -smallest) return largest > -smallest ? largest : smallest;
    if (largest == 0) return 0;  // d = -0
    for (int i = 0; i < block; ++i)
      if (x[i] == largest || x[i] == smallest) return x[i];
    return largest;
  }
};

struct q4_0 {
  using role = tersekv::role::codec;
  using key_format = q4_0_format<layout::rows>;
  using value_format = key_format;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "q4_0";
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return {}; }
  value_format for_values() const { return {}; }
};

}  // namespace tersekv
