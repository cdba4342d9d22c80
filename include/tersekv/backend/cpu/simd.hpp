// SPDX-License-Identifier: Apache-2.0
// The vector operations that kernels are written with: one struct `simd` per instruction set, the same names in each.
//
//   lanes                    32-bit lanes of a vector
//   f32                      `lanes` floats: load, load_part (n of them, zeros behind), store, arithmetic, exp2
//     sums_across            and largests_across: lane r of every quad of lanes, of this quad of x[r], r < 4
//     quads                  quad i: of all quads of x[i]
//     repeat<R>              lane i: of all lanes that are i modulo R, 4 or more
//   quad                     likewise for four lanes, or one: where there are too few numbers for more
//   raw                      4 * lanes bytes of a unit of codes (codec/layout.hpp): field, join, lookup
//   narrow, wide             sums of codes times factors: acc += four products in every lane. Factors are small
//                            integers (narrow 8 bits, wide 16), written once for all lanes
//     write                  rounds 32 numbers to the factors of 8 quads; the lanes of what it returns hold their sum
//     start, start_words     what a sum begins with: minus `offset` times the factors: codes count as u - offset
//     begin, begin_words     likewise, with the first product added; words the way that they are read fastest
//     none, product          likewise: nothing, the first product; codes count as u - origin
//     quads(offset)          how many quads a sum holds before it must be read, whatever the factors. Where that is
//                            few, largest_sum bounds the sum: factors that are small on average allow more
//     fields                 codes that are taken out of a unit field by field, straight from memory
//     places, whole          where codes of two bits may stay in two places of their bytes: whether, and what sums for
//                            each place come to (product.hpp)
//
// The struct stands in a namespace of its instruction set: see isa.hpp.
#pragma once
#include <iterator>
#include <utility>

#include <tersekv/backend/cpu/isa.hpp>

namespace tersekv::detail {
/// f(0), ..., f(N - 1) with constants: arrays of vectors that are indexed so stay in registers, which g++ does not
/// manage for loops.
template <int N, class F>
TERSEKV_INLINE void each(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) TERSEKV_INLINED { (f(std::integral_constant<int, I>{}), ...); }
  (std::make_integer_sequence<int, N>{});
}

/// Numbers that are read one by one are read from memory: g++ would take them out of vectors, with more instructions.
template <class T, int N>
TERSEKV_INLINE void settle(T (&x)[N]) {
#if defined(__GNUC__) && !defined(__clang__)
  __asm__("" : "+m"(x));
#else
  static_cast<void>(x);
#endif
}

/// Operations of `simd` for a vector of one lane, where there are too few numbers for more.
struct single {
  static constexpr int lanes = 1;
  using f32 = float;
  static TERSEKV_INLINE float load(const float* p) { return *p; }
  static TERSEKV_INLINE void store(float* p, float x) { *p = x; }
  static TERSEKV_INLINE float set(float x) { return x; }
  static TERSEKV_INLINE float zero() { return 0; }
  static TERSEKV_INLINE float add(float a, float b) { return a + b; }
  static TERSEKV_INLINE float sub(float a, float b) { return a - b; }
  static TERSEKV_INLINE float mul(float a, float b) { return a * b; }
  static TERSEKV_INLINE float div(float a, float b) { return a / b; }
  static TERSEKV_INLINE float max(float a, float b) { return a > b ? a : b; }
  static TERSEKV_INLINE float magnitude(float x) { return x < 0 ? -x : x; }
  static TERSEKV_INLINE float largest(float x) { return x; }
};

/// 2^x on [-0.5, 0.5] by powers of x, the highest first; 2^0 is 1. Smallest relative error: 1.5e-7 before rounding, and
/// 1.0e-4, which does not show in weights of rows whose codes have up to 4 bits.
struct exp2_precise {
  static constexpr float terms[] = {1.327647198e-03f, 9.675541334e-03f, 5.550713274e-02f,
                                    2.402211972e-01f, 6.931469671e-01f, 1.0f};
};
struct exp2_coarse {
  static constexpr float terms[] = {5.500894457e-02f, 2.422110471e-01f, 6.932829353e-01f, 1.0f};
};
template <class Powers, class V>
TERSEKV_INLINE typename V::f32 sum_of_powers(typename V::f32 x) {
  typename V::f32 sum = V::set(Powers::terms[0]);
  each<static_cast<int>(std::size(Powers::terms)) - 1>(
      [&](auto i) TERSEKV_INLINED { sum = V::fma(sum, x, V::set(Powers::terms[i + 1])); });
  return sum;
}

/// Sums of the factors of some quads, or what they make a sum of products begin with.
struct start_words {
  int word[2] = {0, 0};
};
}  // namespace tersekv::detail

#if defined(TERSEKV_ISA_AVX512)
#include <tersekv/backend/cpu/simd_avx512.hpp>
#elif defined(TERSEKV_ISA_AVX2)
#include <tersekv/backend/cpu/simd_avx2.hpp>
#elif defined(TERSEKV_ISA_NEON)
#include <tersekv/backend/cpu/simd_neon.hpp>
#else
#include <tersekv/backend/cpu/simd_portable.hpp>
#endif
