// SPDX-License-Identifier: Apache-2.0
// Random rows, and caches filled with them. One block of rows is appended again and again: what a kernel does depends
// on how rows are distributed, and that stays.
#pragma once
#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "recipe.hpp"

namespace bench {

/// Normal numbers with the deviation that is given.
inline std::vector<float> normal(std::size_t n, unsigned seed, float sigma = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw(0.0f, sigma);
  std::vector<float> out(n);
  for (float& x : out) x = draw(engine);
  return out;
}

/// `rows` rows and one token: keys and values of deviation 1, queries such that logits have deviation 2.
struct block_of_rows {
  head_shape shape;
  int rows;
  std::vector<float> k, v;  // [rows + 1, kv_heads, dim]; the last row is the step's own
  std::vector<float> q;     // [query_heads, dim]

  block_of_rows(head_shape s, int n, unsigned seed = 1) : shape(s), rows(n) {
    const auto numbers = [&](int tokens, int heads) {
      return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(heads * s.head_dim);
    };
    k = normal(numbers(n + 1, s.kv_heads), seed);
    v = normal(numbers(n + 1, s.kv_heads), seed + 1);
    q = normal(numbers(1, s.query_heads()), seed + 2, 2.0f);
  }
  kv::view keys(int first, int n) const { return view_of(k, first, n); }
  kv::view values(int first, int n) const { return view_of(v, first, n); }
  kv::view queries() const { return {q.data(), 1, shape.query_heads(), shape.head_dim}; }
  const float* key(int row, int h) const { return k.data() + at(row, h); }
  const float* value(int row, int h) const { return v.data() + at(row, h); }

 private:
  std::ptrdiff_t at(int row, int h) const {
    return (static_cast<std::ptrdiff_t>(row) * shape.kv_heads + h) * shape.head_dim;
  }
  kv::view view_of(const std::vector<float>& x, int first, int n) const {
    return {x.data() + at(first, 0), n, shape.kv_heads, shape.head_dim};
  }
};

/// Appends `rows` rows of the block to the sequence, around and around, without attention.
inline void fill(kv::any_sequence& sequence, const block_of_rows& block, int rows, bool more = false) {
  constexpr int most = 2048;
  for (int done = 0; done < rows;) {
    const int first = sequence.length() % block.rows, n = std::min({most, rows - done, block.rows - first});
    done += n;
    auto step = sequence.step(n, {.more = more || done < rows});
    step.append(0, block.keys(first, n), block.values(first, n));
    step.commit();
  }
}

/// A filled cache with an open step of one token, ready to be attended.
struct decoding {
  kv::any_cache cache;
  kv::any_sequence sequence;
  std::vector<float> out;
  std::unique_ptr<kv::any_step> step;
  const block_of_rows* block;

  decoding(kv::any_cache made, const block_of_rows& b, int rows)
      : cache(std::move(made)), sequence(cache.open()),
        out(static_cast<std::size_t>(b.shape.query_heads() * b.shape.head_dim)), block(&b) {
    fill(sequence, b, rows);
    open();
  }
  decoding(const decoding&) = delete;
  void open() {
    step = std::make_unique<kv::any_step>(sequence.step(1));
    step->append(0, block->keys(block->rows, 1), block->values(block->rows, 1));
  }
  void attend() {
    step->attend(0, block->queries(), kv::view(out.data(), 1, block->shape.query_heads(), block->shape.head_dim));
  }
  std::size_t bytes() const { return cache.report().bytes; }
};

/// job(0) .. job(n - 1) on two threads: caches are filled one per thread. The team must be used by one.
inline void in_pairs(std::size_t n, const std::function<void(std::size_t)>& job) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < n; i = next++) job(i);
  };
  std::jthread other(work);
  work();
}

}  // namespace bench
