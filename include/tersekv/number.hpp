// SPDX-License-Identifier: Apache-2.0
// 16-bit numbers and the conversion of rows between them and float.
// Conversions round to nearest even and saturate: a finite float never becomes an infinity.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <tersekv/detail/bit_cast.hpp>
#if defined(__F16C__) && !defined(__CUDA_ARCH__)
#include <immintrin.h>
#endif

namespace tersekv {

/// IEEE binary16, storage only.
struct half {
  std::uint16_t bits = 0;
};
/// The upper half of a float, storage only.
struct bfloat16 {
  std::uint16_t bits = 0;
};

inline constexpr float largest_half = 65504.0f;

TERSEKV_HD constexpr float to_float(float x) { return x; }

TERSEKV_HD constexpr float to_float(bfloat16 x) {
  return detail::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

TERSEKV_HD constexpr float to_float(half x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t rest = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) return detail::bit_cast<float>(sign | 0x70000000u | rest);  // infinity and NaN
  // Exponents differ by 112. Subnormals: 2^-14 is added and taken off again, all in normal floats.
  const bool subnormal = rest < 0x00800000u;
  const float moved = detail::bit_cast<float>(rest + ((subnormal ? 113u : 112u) << 23));
  const float magnitude = subnormal ? moved - detail::bit_cast<float>(113u << 23) : moved;
  return detail::bit_cast<float>(sign | detail::bit_cast<std::uint32_t>(magnitude));
}

template <class T>
TERSEKV_HD constexpr T from_float(float x);

template <>
TERSEKV_HD constexpr float from_float<float>(float x) {
  return x;
}

template <>
TERSEKV_HD constexpr bfloat16 from_float<bfloat16>(float x) {
  std::uint32_t u = detail::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};  // quiet NaN
  const std::uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const bool overflow = (u & 0x7fffffffu) < 0x7f800000u && (rounded & 0x7fffffffu) >= 0x7f800000u;
  return {static_cast<std::uint16_t>(overflow ? ((u >> 16) & 0x8000u) | 0x7f7fu : rounded >> 16)};
}

template <>
TERSEKV_HD constexpr half from_float<half>(float x) {
  const std::uint32_t u = detail::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  std::uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (a == 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (a >= 0x477fe000u) return {static_cast<std::uint16_t>(sign | 0x7bffu)};  // 65504 and above
  if (a < 0x38800000u) {                                                      // below 2^-14: add 0.5, read the bits
    const float aligned = detail::bit_cast<float>(a) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (detail::bit_cast<std::uint32_t>(aligned) - 0x3f000000u))};
  }
  a += 0xc8000fffu + ((a >> 13) & 1u);  // rebias by -112, round half to even
  return {static_cast<std::uint16_t>(sign | (a >> 13))};
}

/// a * b, rounded on its own: compilers would make one operation of it and an addition that follows, where there is
/// one, and then codes and decoded numbers would depend on the processor.
TERSEKV_HD inline float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, -0.0f);  // the same number; loops with it are still vectorised
#else
  return a * b;
#endif
}

/// Whether none of n numbers is NaN or infinite: asked of their bits, whatever compilers may assume of floats.
inline bool all_finite(const float* x, int n) {
  constexpr int lanes = 16;  // enough for vectors of any width
  std::int32_t largest[lanes] = {};
  const auto take = [&](int lane, float number) {
    largest[lane] = std::max(largest[lane], detail::bit_cast<std::int32_t>(number) & 0x7fffffff);
  };
  int i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; ++j) take(j, x[i + j]);
  for (; i < n; ++i) take(0, x[i]);
  return *std::max_element(largest, largest + lanes) < 0x7f800000;
}

/// out[i] = in[i] for i < n, widened.
template <class T>
inline void widen(const T* in, int n, float* out) {
  int i = 0;
#if defined(__F16C__) && !defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, half>)
    for (; i + 8 <= n; i += 8)
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
#endif
  for (; i < n; ++i) out[i] = to_float(in[i]);
}

/// out[i] = in[i] for i < n, rounded to T.
template <class T>
inline void narrow(const float* in, int n, T* out) {
  int i = 0;
#if defined(__F16C__) && !defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, half>)
    for (; i + 8 <= n; i += 8) {
      const __m256 x = _mm256_loadu_ps(in + i), size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
      if (_mm256_movemask_ps(_mm256_cmp_ps(size, _mm256_set1_ps(largest_half), _CMP_NLE_UQ)) !=
          0) {  // saturate, or NaN
        for (int j = i; j < i + 8; ++j) out[j] = from_float<T>(in[j]);
        continue;
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
  for (; i < n; ++i) out[i] = from_float<T>(in[i]);
}

}  // namespace tersekv
