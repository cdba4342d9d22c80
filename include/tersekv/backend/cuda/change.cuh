// SPDX-License-Identifier: Apache-2.0
// How much rows change between two appends of the same layer: for models that repeat their layers over a prompt.
#pragma once
#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/backend/cuda/elements.cuh>
#include <tersekv/backend/cuda/launch.cuh>

namespace tersekv::detail {

struct compare_arguments {
  device_array fresh, old;  // [n, heads, dim]
  int n, heads, dim;
  int* largest;  // two words: bits of max |fresh|, of max |fresh - old|
};

/// One warp per (token, head). Floats that are not negative are ordered as their bits are.
template <int = 0>
__global__ void compare_kernel(const compare_arguments a) {
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  if (row >= a.n * a.heads) return;
  const int token = row / a.heads, head = row % a.heads;
  float size = 0, moved = 0;
  for (int c = static_cast<int>(threadIdx.x % 32); c < a.dim; c += 32) {
    const float x = read_element(a.fresh, a.fresh.at(token, head) + c);
    const float y = read_element(a.old, a.old.at(token, head) + c);
    size = fmaxf(size, fabsf(x)), moved = fmaxf(moved, fabsf(x - y));
  }
  const auto larger = [](float x, float y) { return fmaxf(x, y); };
  size = warp_reduce(size, larger), moved = warp_reduce(moved, larger);
  if (threadIdx.x % 32 != 0) return;
  atomicMax(a.largest, bit_cast<int>(size));
  atomicMax(a.largest + 1, bit_cast<int>(moved));
}
inline void compare_rows(const compare_arguments& a, cuda_stream stream) {
  constexpr unsigned warps = 8;
  const unsigned rows = static_cast<unsigned>(a.n) * static_cast<unsigned>(a.heads);
  launch(compare_kernel<>, (rows + warps - 1) / warps, 32 * warps, 0, stream, a);
}

}  // namespace tersekv::detail
