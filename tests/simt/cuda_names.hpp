// SPDX-License-Identifier: Apache-2.0
// The CUDA C++ that kernels are written in, for a compiler that knows none of it. What is missing here (static
// __shared__ variables, collectives without a mask) is what kernels must not use.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "simt/meeting.hpp"
#include "simt/memory.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::simt::self->index)
#define blockIdx (::simt::self->block->index)
#define blockDim (::simt::self->block->threads)
#define gridDim (::simt::self->block->grid)

// NOLINTBEGIN(bugprone-reserved-identifier)
inline void __syncthreads(simt::place where = {}) { simt::sync_block(where); }
inline void __syncwarp(unsigned mask = 0xffffffffu, simt::place where = {}) { simt::sync_warp(mask, where); }
inline void __threadfence() { simt::fence(); }
[[noreturn]] inline void __trap() { simt::fail("__trap"); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, simt::place where = {}) {
  const int first = static_cast<int>(simt::self->number) / width * width;
  return simt::shuffle(mask, "__shfl_sync", where, value, first + source % width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, simt::place where = {}) {
  const int me = static_cast<int>(simt::self->number), source = me ^ bits;
  return simt::shuffle(mask, "__shfl_xor_sync", where, value, source < me / width * width + width ? source : me);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32, simt::place where = {}) {
  const int me = static_cast<int>(simt::self->number);
  return simt::shuffle(mask, "__shfl_down_sync", where, value, me % width + by < width ? me + by : me);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32, simt::place where = {}) {
  const int me = static_cast<int>(simt::self->number);
  return simt::shuffle(mask, "__shfl_up_sync", where, value, me % width >= by ? me - by : me);
}
inline unsigned __ballot_sync(unsigned mask, bool vote, simt::place where = {}) {
  return simt::ballot(mask, "__ballot_sync", where, vote);
}
inline bool __any_sync(unsigned mask, bool vote, simt::place where = {}) {
  return simt::ballot(mask, "__any_sync", where, vote) != 0;
}
inline bool __all_sync(unsigned mask, bool vote, simt::place where = {}) {
  return simt::ballot(mask, "__all_sync", where, vote) == mask;
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(unsigned x) { return std::countl_zero(x); }
inline int __ffs(unsigned x) { return x == 0 ? 0 : std::countr_zero(x) + 1; }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
// NOLINTEND(bugprone-reserved-identifier)

using std::max;
using std::min;

template <class T>
T atomicAdd(T* p, T value) {
  return simt::atomic(p, [value](T before) { return static_cast<T>(before + value); });
}
template <class T>
T atomicMax(T* p, T value) {
  return simt::atomic(p, [value](T before) { return std::max(before, value); });
}
template <class T>
T atomicMin(T* p, T value) {
  return simt::atomic(p, [value](T before) { return std::min(before, value); });
}
template <class T>
T atomicOr(T* p, T value) {
  return simt::atomic(p, [value](T before) { return before | value; });
}
template <class T>
T atomicExch(T* p, T value) {
  return simt::atomic(p, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* p, T expected, T value) {
  return simt::atomic(p, [expected, value](T before) { return before == expected ? value : before; });
}
/// Counts 0, 1, ..., last, 0, ...
inline unsigned atomicInc(unsigned* p, unsigned last) {
  return simt::atomic(p, [last](unsigned before) { return before >= last ? 0u : before + 1; });
}
