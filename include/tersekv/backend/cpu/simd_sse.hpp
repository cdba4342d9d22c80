// SPDX-License-Identifier: Apache-2.0
// Operations of `simd` for vectors of four lanes: its `quad`.
#pragma once
#include <immintrin.h>

#include <tersekv/backend/cpu/isa.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

struct four_lanes {
  static constexpr int lanes = 4;
  using f32 = __m128;
  static TERSEKV_INLINE f32 load(const float* p) { return _mm_loadu_ps(p); }
  static TERSEKV_INLINE void store(float* p, f32 x) { _mm_storeu_ps(p, x); }
  static TERSEKV_INLINE f32 set(float x) { return _mm_set1_ps(x); }
  static TERSEKV_INLINE f32 zero() { return _mm_setzero_ps(); }
  static TERSEKV_INLINE f32 add(f32 a, f32 b) { return _mm_add_ps(a, b); }
  static TERSEKV_INLINE f32 sub(f32 a, f32 b) { return _mm_sub_ps(a, b); }
  static TERSEKV_INLINE f32 mul(f32 a, f32 b) { return _mm_mul_ps(a, b); }
  static TERSEKV_INLINE f32 div(f32 a, f32 b) { return _mm_div_ps(a, b); }
  static TERSEKV_INLINE f32 max(f32 a, f32 b) { return _mm_max_ps(a, b); }
  static TERSEKV_INLINE f32 magnitude(f32 x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), x); }
  static TERSEKV_INLINE float largest(f32 x) {
    const f32 two = max(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
