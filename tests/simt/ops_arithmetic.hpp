// SPDX-License-Identifier: Apache-2.0
// Fallbacks for the CPU of tersekv/backend/cuda/ptx_arithmetic.cuh.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <tersekv/number.hpp>

#include "simt/cuda_types.hpp"

namespace simt {

/// The 16-bit number nearest to x, even bits on ties, with `digits` bits of mantissa: 10 for half, 7 for bfloat16.
inline std::uint16_t nearest(double x, int digits) {
  const int bias = digits == 10 ? 15 : 127, infinity = (2 * bias + 1) << digits;
  const unsigned sign = std::signbit(x) ? 0x8000u : 0u;
  if (std::isnan(x)) return 0x7fff;
  if (x == 0) return static_cast<std::uint16_t>(sign);
  if (std::isinf(x)) return static_cast<std::uint16_t>(sign | static_cast<unsigned>(infinity));
  int exponent = 0;
  std::frexp(x, &exponent);                 // |x| = f 2^exponent, f in [0.5, 1)
  exponent = std::max(exponent, 2 - bias);  // subnormals share the last one
  const auto mantissa = static_cast<int>(std::nearbyint(std::ldexp(std::fabs(x), digits + 1 - exponent)));
  const int bits = std::min(((exponent + bias - 2) << digits) + mantissa, infinity);  // a carry moves to the exponent
  return static_cast<std::uint16_t>(sign | static_cast<unsigned>(bits));
}

inline std::uint16_t low(std::uint32_t pair) { return static_cast<std::uint16_t>(pair); }
inline std::uint16_t high(std::uint32_t pair) { return static_cast<std::uint16_t>(pair >> 16); }
inline std::uint32_t pair(std::uint16_t low, std::uint16_t high) { return low | std::uint32_t{high} << 16; }

}  // namespace simt

namespace tersekv::detail {

inline float half_to_float(std::uint16_t bits) { return to_float(half{bits}); }
inline float bfloat16_to_float(std::uint16_t bits) { return to_float(bfloat16{bits}); }
inline std::uint16_t half_from_float(float x) { return simt::nearest(double{x}, 10); }
inline std::uint16_t bfloat16_from_float(float x) { return simt::nearest(double{x}, 7); }

#define SIMT_PACKED(kind, number, digits)                                                        \
  inline std::uint32_t kind##_pack(float low, float high) {                                      \
    return simt::pair(simt::nearest(double{low}, digits), simt::nearest(double{high}, digits));  \
  }                                                                                              \
  inline float2 kind##_unpack(std::uint32_t pair) {                                              \
    return {to_float(number{simt::low(pair)}), to_float(number{simt::high(pair)})};              \
  }                                                                                              \
  template <class F>                                                                             \
  std::uint32_t kind##_each(F f, std::uint32_t a, std::uint32_t b, std::uint32_t c = 0) {        \
    const float2 x = kind##_unpack(a), y = kind##_unpack(b), z = kind##_unpack(c);               \
    return simt::pair(simt::nearest(f(double{x.x}, double{y.x}, double{z.x}), digits),           \
                      simt::nearest(f(double{x.y}, double{y.y}, double{z.y}), digits));          \
  }                                                                                              \
  inline std::uint32_t kind##_add(std::uint32_t a, std::uint32_t b) {                            \
    return kind##_each([](double x, double y, double) { return x + y; }, a, b);                  \
  }                                                                                              \
  inline std::uint32_t kind##_sub(std::uint32_t a, std::uint32_t b) {                            \
    return kind##_each([](double x, double y, double) { return x - y; }, a, b);                  \
  }                                                                                              \
  inline std::uint32_t kind##_mul(std::uint32_t a, std::uint32_t b) {                            \
    return kind##_each([](double x, double y, double) { return x * y; }, a, b);                  \
  }                                                                                              \
  inline std::uint32_t kind##_min(std::uint32_t a, std::uint32_t b) {                            \
    return kind##_each([](double x, double y, double) { return std::fmin(x, y); }, a, b);        \
  }                                                                                              \
  inline std::uint32_t kind##_max(std::uint32_t a, std::uint32_t b) {                            \
    return kind##_each([](double x, double y, double) { return std::fmax(x, y); }, a, b);        \
  }                                                                                              \
  inline std::uint32_t kind##_fma(std::uint32_t a, std::uint32_t b, std::uint32_t c) {           \
    return kind##_each([](double x, double y, double z) { return std::fma(x, y, z); }, a, b, c); \
  }
SIMT_PACKED(half2, half, 10)
SIMT_PACKED(bfloat2, bfloat16, 7)
#undef SIMT_PACKED

inline float exp2_fast(float x) { return std::exp2(x); }

template <unsigned Table>
std::uint32_t lop3(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t r = 0;
  for (unsigned row = 0; row < 8; ++row)
    if (Table >> row & 1) r |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  return r;
}

inline std::uint32_t byte_select(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  const std::uint64_t bytes = a | std::uint64_t{b} << 32;
  std::uint32_t r = 0;
  for (unsigned i = 0; i < 4; ++i)
    r |= static_cast<std::uint32_t>(bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  return r;
}
template <unsigned Selector>
std::uint32_t byte_perm(std::uint32_t a, std::uint32_t b) {
  return byte_select(a, b, Selector);
}

inline int dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<std::int8_t>(a >> 8 * i) * static_cast<std::int8_t>(b >> 8 * i);
  return c;
}

}  // namespace tersekv::detail
