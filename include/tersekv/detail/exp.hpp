// SPDX-License-Identifier: Apache-2.0
// exp() for single logits; relative error below 2e-7, exp(-inf) = 0. Rows of them: backend/cpu/logits.hpp.
#pragma once
#include <cstdint>

#include <tersekv/detail/bit_cast.hpp>

namespace tersekv::detail {

/// e^x for x <= 0 (up to 88 in fact); below -87.3, where floats end, exactly 0.
TERSEKV_HD inline float fast_exp(float x) {
  const float bounded = x < -87.3f ? -87.3f : (x > 88.0f ? 88.0f : x);
  const float n = bounded * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
  const float k = n - 12582912.0f;
  const float r = (bounded - k * 0.693359375f) + k * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.9875691500e-4f;                                         // minimax polynomial of Cephes expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto scale = bit_cast<float>((bit_cast<std::int32_t>(n) - 0x4b400000 + 127) << 23);
  return x < -87.3f ? 0.0f : p * scale;
}

}  // namespace tersekv::detail
