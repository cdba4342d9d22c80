// SPDX-License-Identifier: Apache-2.0
// Transforms of queries and outputs (through<>). A warp works on one row in shared memory: all of its lanes call, and
// see the result. The same additions in the same order as on the CPU.
#pragma once
#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/transform/hadamard.hpp>

namespace tersekv::detail {

/// x <- H x
__device__ inline void turn_hadamard(float* x, int dim) {
  const int lane = static_cast<int>(threadIdx.x % 32), n = hadamard::block(dim);
  const float scale = 1.0f / sqrtf(static_cast<float>(n));
  for (int c = lane; c < dim; c += 32) x[c] *= scale;
  const auto add = [&](int half) {
    __syncwarp();
    for (int pair = lane; pair < dim / 2; pair += 32) {
      const int i = pair / half * 2 * half + pair % half;
      const float u = x[i], v = x[i + half];
      x[i] = u + v;
      x[i + half] = u - v;
    }
  };
  add(4), add(2), add(1);
  for (int half = 8; half < n; half *= 2) add(half);
  __syncwarp();
}

/// x <- diag(signs) x
__device__ inline void turn_signs(const hadamard& turn, float* x, int dim) {
  if (turn.seed == 0) return;
  for (int c = static_cast<int>(threadIdx.x % 32); c < dim; c += 32)
    if (turn.signs(c / 64) >> (c % 64) & 1) x[c] = -x[c];
  __syncwarp();
}

__device__ inline void turn_query(const hadamard& turn, float* x, int dim) {
  turn_signs(turn, x, dim);
  turn_hadamard(x, dim);
}
__device__ inline void turn_output(const hadamard& turn, float* x, int dim) {
  turn_hadamard(x, dim);
  turn_signs(turn, x, dim);
}

/// A transform without a warp's form: one lane does it, which needs functions for the device.
template <class Transform>
__device__ void turn_query(const Transform& turn, float* x, int dim) {
  if (threadIdx.x % 32 == 0) turn.query(x, dim);
  __syncwarp();
}
template <class Transform>
__device__ void turn_output(const Transform& turn, float* x, int dim) {
  if (threadIdx.x % 32 == 0) turn.output(x, dim);
  __syncwarp();
}

}  // namespace tersekv::detail
