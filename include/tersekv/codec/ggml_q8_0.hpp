// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/ggml_q8_0.hpp
//
// q8_0: 8-bit blocks of 32 channels, byte for byte those of ggml (llama.cpp, whisper.cpp).
//
// Paper     none; quantize_row_q8_0_ref of github.com/ggml-org/ggml
// Formula   d = max|x| / 127     n = round(x / d), halves away from zero     x' = f16(d) * n
// Shapes    tile [rows, dim / 32] of { d f16, n int8 [32] }: a row is what ggml calls a row
// Differs   d stays finite where f16 would overflow (max|x| > 8.3e6)
// Cost      8.5 bits per number
// Needs     a head dimension that is a multiple of 32
// With      |x - x'| <= d / 2 + 127 |d - f16(d)|: codes are found before d is rounded
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/grid.hpp>
#include <tersekv/codec/layout.hpp>
#include <tersekv/detail/pack.hpp>
#include <tersekv/detail/planes.hpp>

namespace tersekv {

template <class Layout>
struct q8_0_format;

template <>
struct q8_0_format<layout::rows> : detail::row_planes<q8_0_format<layout::rows>> {
  static constexpr int span = 1;
  static constexpr bool opens = true;
  static constexpr int block = 32;
  static constexpr std::size_t block_bytes = 2 + block;

  void check(int dim) const { detail::require_multiple("q8_0", dim, block); }
  std::array<std::size_t, 1> planes(int dim) const { return {static_cast<std::size_t>(dim / block) * block_bytes}; }

  void encode(const float* x, int dim, std::byte* tile, int, int first, int count) const {
    std::byte* to = tile + planes(dim)[0] * static_cast<std::size_t>(first);
    for (const float* end = x + count * dim; x != end; x += block, to += block_bytes) {
      const auto [smallest, largest] = detail::range_of(x, block);
      const float top = largest > -smallest ? largest : -smallest;
      const float d = top > 0 ? top / 127.0f : 0.0f;  // not -0
      float inverse = d > 0 ? 1.0f / d : 0.0f;
      if (inverse > 3e38f) inverse = 0;  // d far below the smallest f16
      detail::store_half(to, from_float<half>(d));
      std::array<std::int8_t, block> n;
      for (int i = 0; i < block; ++i) {
        const float scaled = grid::clamp(x[i] * inverse, -127.0f, 127.0f);
        const int whole = static_cast<int>(scaled);
        const float rest = scaled - static_cast<float>(whole);
        n[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(whole + (rest >= 0.5f) - (rest <= -0.5f));
      }
      std::memcpy(to + 2, n.data(), block);
    }
  }
  void decode(const std::byte* tile, int, int first, int count, int dim, float* x) const {
    const std::byte* from = tile + planes(dim)[0] * static_cast<std::size_t>(first);
    for (const float* end = x + count * dim; x != end; x += block, from += block_bytes) {
      const float d = detail::load_half(from);
      std::array<std::int8_t, block> n;
      std::memcpy(n.data(), from + 2, block);
      for (int i = 0; i < block; ++i) x[i] = d * static_cast<float>(n[static_cast<std::size_t>(i)]);
    }
  }
};

struct q8_0 {
  using role = tersekv::role::codec;
  using key_format = q8_0_format<layout::rows>;
  using value_format = key_format;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = "q8_0";
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return {}; }
  value_format for_values() const { return {}; }
};

}  // namespace tersekv
