// SPDX-License-Identifier: Apache-2.0
#include "cache.hpp"

#include <cmath>
#include <cstdio>
#include <vector>

namespace kv = tersekv;

int main() {
  constexpr int tokens = 2, dim = 64;
  kv::any_cache cache = engine_cache({.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = dim});
  kv::any_sequence chat = cache.open();
  std::vector<float> keys(tokens * dim, 0.5f), values(tokens * dim, 2.0f), queries(tokens * 2 * dim, 1.0f);
  std::vector<float> out(queries.size());
  kv::any_step step = chat.step(tokens);
  step.append(0, kv::view(keys.data(), tokens, 1, dim), kv::view(values.data(), tokens, 1, dim));
  step.attend(0, kv::view(queries.data(), tokens, 2, dim), kv::view(out.data(), tokens, 2, dim));
  step.commit();
  std::printf("attention over equal values gives %g\n", out[0]);
  return std::fabs(out[0] - 2.0f) < 1e-3f ? 0 : 1;
}
