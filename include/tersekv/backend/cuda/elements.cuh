// SPDX-License-Identifier: Apache-2.0
// Numbers of a device_array, one at a time.
#pragma once
#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

__device__ __forceinline__ float read_element(const device_array& a, std::int64_t i) {
  if (a.type == element::f32) return load(static_cast<const float*>(a.data) + i);
  const std::uint16_t bits = load(static_cast<const std::uint16_t*>(a.data) + i);
  return a.type == element::f16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

/// Rounds to nearest even and saturates.
__device__ __forceinline__ void write_element(const device_array& a, std::int64_t i, float x) {
  if (a.type == element::f32)
    store(static_cast<float*>(a.data) + i, x);
  else
    store(static_cast<std::uint16_t*>(a.data) + i,
          a.type == element::f16 ? from_float<half>(x).bits : from_float<bfloat16>(x).bits);
}

/// Infinities of packed halves become 65504.
__device__ __forceinline__ std::uint32_t half2_finite(std::uint32_t x) {
  return half2_max(half2_min(x, 0x7bff7bffu), 0xfbfffbffu);
}
/// Two 16-bit numbers of type `type` as halves.
__device__ __forceinline__ std::uint32_t as_halves(std::uint32_t two, element type) {
  if (type == element::f16) return two;
  const float2 x = bfloat2_unpack(two);
  return half2_finite(half2_pack(x.x, x.y));
}

}  // namespace tersekv::detail
