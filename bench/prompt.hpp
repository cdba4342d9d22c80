// SPDX-License-Identifier: Apache-2.0
// Prompts: caches with an open step of many tokens.
#pragma once
#include <memory>
#include <vector>

#include "axes.hpp"
#include "data.hpp"
#include "record.hpp"

namespace bench {

/// A cache with `past` rows, and an open step of n tokens.
struct prompting {
  kv::any_cache cache;
  kv::any_sequence sequence;
  std::unique_ptr<kv::any_step> step;
  head_shape shape;
  int n;
  std::vector<float> q, out;

  prompting(kv::any_cache made, const block_of_rows& block, int past, int tokens)
      : cache(std::move(made)), sequence(cache.open()), shape(block.shape), n(tokens) {
    fill(sequence, block, past, true);
    step = std::make_unique<kv::any_step>(sequence.step(n));
    step->append(0, block.keys(0, n), block.values(0, n));
  }
  prompting(const prompting&) = delete;
  void attend() {
    const int heads = shape.query_heads();
    if (q.empty()) q = normal(static_cast<std::size_t>(n * heads * dim), 5, 2.0f);
    out.resize(q.size());
    step->attend(0, kv::view(q.data(), n, heads, dim), kv::view(out.data(), n, heads, dim));
  }
};

/// Microseconds of the attention of a whole prompt of dense f16, from that of 64 tokens in its middle: the cost of a
/// token grows with its position.
inline double attention_of_prompt(session& s, const block_of_rows& block, int rows) {
  constexpr int n = 64;
  s.note("the attention of a whole prompt is taken from that of 64 tokens in its middle");
  prompting middle(make("dense=f16", block.shape.model(), s.backend()), block, (rows - n) / 2, n);
  return interleaved({{.name = "attend", .run = [&] { middle.attend(); }}}, s.seconds(1))[0].us * rows / n;
}

}  // namespace bench
