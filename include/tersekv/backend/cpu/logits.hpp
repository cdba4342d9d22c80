// SPDX-License-Identifier: Apache-2.0
// What attention of many queries does with a row of logits. Written in vectors, as compilers leave such loops as they
// are: g++ keeps the order of sums, and does not compute both sides of a condition on floats unless told that they
// cannot trap.
#pragma once
#include <tersekv/backend/cpu/packed.hpp>
#include <tersekv/backend/cpu/simd.hpp>
#include <tersekv/detail/exp.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

inline float largest_of(const float* x, int n) {
  simd::f32 most = simd::set(minus_infinity);
  int i = 0;
  for (; i + simd::lanes <= n; i += simd::lanes) most = simd::max(most, simd::load(x + i));
  float largest = simd::largest(most);
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}
/// e^x for x <= 0: exactly 0 for -inf, whose power of two some instruction sets make the smallest that they have.
TERSEKV_INLINE simd::f32 exp_of(simd::f32 x) {
  const simd::f32 power = simd::exp2<exp2_precise>(simd::mul(x, simd::set(log2_e)));
  return simd::max(simd::sub(power, simd::set(0x1p-125f)), simd::zero());
}
/// x[i] = e^(x[i] - shift), for n numbers: their sum.
inline float exp_and_sum(float* x, int n, float shift) {
  simd::f32 sums = simd::zero();
  int i = 0;
  for (; i + simd::lanes <= n; i += simd::lanes) {
    const simd::f32 power = exp_of(simd::sub(simd::load(x + i), simd::set(shift)));
    simd::store(x + i, power);
    sums = simd::add(sums, power);
  }
  float sum = simd::sum(sums);
  for (; i < n; ++i) sum += x[i] = fast_exp(x[i] - shift);
  return sum;
}
/// to[i] += weight * e^(x[i] - shift), for n numbers.
inline void add_exp(const float* x, int n, float shift, float weight, float* to) {
  int i = 0;
  for (; i + simd::lanes <= n; i += simd::lanes) {
    const simd::f32 power = exp_of(simd::sub(simd::load(x + i), simd::set(shift)));
    simd::store(to + i, simd::fma(power, simd::set(weight), simd::load(to + i)));
  }
  for (; i < n; ++i) to[i] += weight * fast_exp(x[i] - shift);
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
