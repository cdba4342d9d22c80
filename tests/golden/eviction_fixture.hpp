// SPDX-License-Identifier: Apache-2.0
// Sixteen tokens of two KV heads and four query heads, head_dim 4, no rotation, made by a linear congruential
// generator: all numbers are multiples of 0.5 between -1.5 and 1.5. The expected sets were computed in float64,
// smallest margin 8e-4.
#pragma once
#include "../support.hpp"

namespace golden {

namespace kv = tersekv;

inline const kv::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 4};
inline constexpr int tokens = 16;

/// In the order of a test stream: [tokens, heads, dim].
inline test::stream fixture() {
  test::stream s(shape, tokens);
  std::uint64_t x = 1731;
  for (auto* part : {&s.q[0], &s.k[0], &s.v[0]}) {
    const std::size_t heads = part == &s.q[0] ? 4 : 2;
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t c = 0; c < 4; ++c) {
          x = (1103515245u * x + 12345u) % (1ull << 31);
          (*part)[(t * heads + h) * 4 + c] = (static_cast<float>((x >> 16) % 7) - 3) / 2;
        }
  }
  return s;
}

/// Causal attention of a query head, float64: row[j] of query i.
inline std::vector<double> attention_row(const test::stream& s, int query_head, int i) {
  std::vector<double> row;
  double sum = 0;
  for (int j = 0; j <= i; ++j) {
    double dot = 0;
    for (int c = 0; c < 4; ++c)
      dot += static_cast<double>(s.query(0, i, query_head)[c]) * static_cast<double>(s.key(0, j, query_head / 2)[c]);
    row.push_back(std::exp(dot / 2));
    sum += row.back();
  }
  for (double& p : row) p /= sum;
  return row;
}

/// What both KV heads keep after the fixture as one prompt.
template <class Policy, class... Others>
std::vector<std::vector<int>> kept(const Policy& policy, const Others&... others) {
  auto s = fixture();
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, policy, others...);
  auto chat = cache.open();
  test::feed(cache, chat, s, tokens);
  return {chat.positions(0, 0), chat.positions(0, 1)};
}

using sets = std::vector<std::vector<int>>;

}  // namespace golden
