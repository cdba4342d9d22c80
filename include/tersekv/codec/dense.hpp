// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/dense.hpp
//
// dense<float>, dense<half>, dense<bfloat16>: rows as plain numbers (dense<half> is the default).
//
// Formula   x' = round_to_T(x); half saturates at +-65504
// Shapes    tile [rows, dim] of T
// Cost      32 or 16 bits per number, nothing else
// Needs     nothing
#pragma once
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/detail/planes.hpp>
#include <tersekv/number.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

template <class T>
struct dense_format : detail::row_planes<dense_format<T>> {
  static constexpr int span = 1;
  static constexpr bool opens = true;
  void check(int) const {}
  TERSEKV_HD static constexpr std::size_t row_bytes(int dim) { return sizeof(T) * static_cast<std::size_t>(dim); }
  std::array<std::size_t, 1> planes(int dim) const { return {row_bytes(dim)}; }

  void encode(const float* x, int dim, std::byte* tile, int, int first, int count) const {
    narrow(x, count * dim, reinterpret_cast<T*>(tile) + first * dim);
  }
  void decode(const std::byte* tile, int, int first, int count, int dim, float* x) const {
    widen(reinterpret_cast<const T*>(tile) + first * dim, count * dim, x);
  }
  /// One number, as decode gives it.
  TERSEKV_HD float value(const std::byte* tile, int, int dim, int row, int channel) const {
    return to_float(reinterpret_cast<const T*>(tile)[static_cast<std::ptrdiff_t>(row) * dim + channel]);
  }
};

template <class T>
struct dense {
  using role = tersekv::role::codec;
  using key_format = dense_format<T>;
  using value_format = dense_format<T>;
  using provides = tersekv::codec_facts<key_format, value_format, 0>;
  static constexpr std::string_view name = sizeof(T) == 4                     ? "dense=f32"
                                           : std::is_same_v<T, tersekv::half> ? "dense=f16"
                                                                              : "dense=bf16";
  static constexpr int window = 0, sinks = 0;
  key_format for_keys() const { return {}; }
  value_format for_values() const { return {}; }
};

}  // namespace tersekv
