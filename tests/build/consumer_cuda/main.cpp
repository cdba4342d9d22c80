// SPDX-License-Identifier: Apache-2.0
// A plain C++ compiler reads this file; kernels stand behind any_cache.
#include "cache.hpp"

#include <cmath>
#include <cstdio>

#include <cuda_runtime_api.h>

namespace kv = tersekv;

int main() {
  constexpr int tokens = 2, heads = 2, dim = 64, numbers = tokens * dim;
  float* memory = nullptr;  // keys, values, queries, outputs
  if (cudaMallocManaged(reinterpret_cast<void**>(&memory), (2 + 2 * heads) * numbers * sizeof(float)) != cudaSuccess) {
    std::printf("linked; no GPU to run on\n");
    return 0;
  }
  float *keys = memory, *values = keys + numbers, *queries = values + numbers, *out = queries + heads * numbers;
  for (int i = 0; i < numbers; ++i) keys[i] = 0.5f, values[i] = 2.0f;
  for (int i = 0; i < heads * numbers; ++i) queries[i] = 1.0f;

  kv::any_cache cache = engine_cache({.layers = 1, .query_heads = heads, .kv_heads = 1, .head_dim = dim});
  kv::any_sequence chat = cache.open();
  kv::any_step step = chat.step(tokens);
  step.append(0, kv::view(keys, tokens, 1, dim), kv::view(values, tokens, 1, dim));
  step.attend(0, kv::view(queries, tokens, heads, dim), kv::view(out, tokens, heads, dim));
  step.commit();
  cudaDeviceSynchronize();
  std::printf("attention over equal values gives %g\n", out[0]);
  return std::fabs(out[0] - 2.0f) < 1e-3f ? 0 : 1;
}
