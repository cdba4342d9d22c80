// SPDX-License-Identifier: Apache-2.0
// What kernels use beyond plain CUDA C++. Nothing else in the library may use PTX or toolkit headers for devices.
// Packed numbers are 32-bit words that hold two 16-bit numbers, the first in the low half. The tests' fallbacks for the
// CPU have the same signatures (docs/cuda.md).
#pragma once
#include <tersekv/backend/cuda/target.cuh>
#if defined(TERSEKV_SIMT)
#include "simt/device_ops.hpp"
#else
#include <tersekv/backend/cuda/ptx_arithmetic.cuh>
#include <tersekv/backend/cuda/ptx_matrix.cuh>
#include <tersekv/backend/cuda/ptx_memory.cuh>
#endif
#include <tersekv/backend/cuda/shared.cuh>

namespace tersekv::detail {

inline constexpr std::uint32_t all_lanes = 0xffffffffu;

/// f over values of lanes whose numbers differ in the bits `from`, from / 2, ..., `to`; by default of the whole warp.
/// Every lane of the warp calls it, and gets the result of its own lanes.
template <class T, class F>
__device__ __forceinline__ T warp_reduce(T value, F f, int from = 16, int to = 1) {
  TERSEKV_UNROLL
  for (int bit = from; bit >= to; bit >>= 1) value = f(value, __shfl_xor_sync(all_lanes, value, bit));
  return value;
}

}  // namespace tersekv::detail
