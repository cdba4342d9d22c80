// SPDX-License-Identifier: Apache-2.0
// A batch of steps is its steps one after the other: same rows, same codes, same attention.
#pragma once
#include <deque>
#include <vector>

#include <tersekv/batch.hpp>

#include "cache.hpp"

namespace laws {

/// One step of a sequence.
struct one_step {
  int n = 1;
  kv::step_options options{};
  int accepted = n;
};

/// Steps of several sequences that are open at the same time, in the order of the sequences.
template <class Cache>
class steps_of {
 public:
  using step_type = typename Cache::step_type;
  using outputs = std::vector<std::vector<float>>;  // [steps][n, query_heads, value_dim]

  steps_of(const Cache& cache, std::deque<typename Cache::sequence_type>& sequences,
           const std::vector<one_step>& wanted, test::stream& s)
      : cache_(cache), stream_(s), wanted_(wanted) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      first_.push_back(sequences[i].length());
      all_.push_back(&open_.emplace_back(sequences[i], wanted[i].n, wanted[i].options));
      accepted_.push_back(wanted[i].accepted);
    }
  }
  const std::vector<step_type*>& all() const { return all_; }
  const std::vector<int>& accepted() const { return accepted_; }

  outputs layer(int l, bool together) {
    const kv::model_shape& shape = stream_.shape;
    outputs out;
    std::vector<kv::view> k, v, q, o;
    for (std::size_t i = 0; i < all_.size(); ++i) {
      const int n = wanted_[i].n;
      out.emplace_back(static_cast<std::size_t>(n * shape.query_heads * shape.value_dim));
      k.push_back(stream_.keys(l, first_[i], n)), v.push_back(stream_.values(l, first_[i], n));
      q.push_back(stream_.queries(l, first_[i], n));
      o.emplace_back(out[i].data(), n, shape.query_heads, shape.value_dim);
    }
    if (together) {
      if (cache_.owns(l)) kv::append(all_, l, k, v);
      kv::attend(all_, l, q, o);
    } else {
      for (std::size_t i = 0; i < all_.size(); ++i) {
        if (cache_.owns(l)) all_[i]->append(l, k[i], v[i]);
        all_[i]->attend(l, q[i], o[i]);
      }
    }
    return out;
  }
  void commit(bool together) {
    if (together) return kv::commit(all_, accepted_);
    for (std::size_t i = 0; i < all_.size(); ++i) all_[i]->commit(accepted_[i]);
  }

 private:
  const Cache& cache_;
  test::stream& stream_;
  std::vector<one_step> wanted_;
  std::vector<int> first_, accepted_;
  std::deque<step_type> open_;
  std::vector<step_type*> all_;
};

/// Prompts, chunks of them, drafts, single tokens and a fork, all in the same batches, against a cache of `Alone` that
/// takes the same steps one by one. tolerance: of outputs; 0 = they are the same numbers.
template <class Together, class Alone, class... Ps>
void batch(double tolerance, int tokens, Ps... policies) {
  test::stream s({.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64}, 240, 5);
  auto cache = kv::make_cache(s.shape, Together{}, policies...);
  auto other = kv::make_cache(s.shape, Alone{}, policies...);
  std::deque<typename decltype(cache)::sequence_type> a;
  std::deque<typename decltype(other)::sequence_type> b;
  for (int i = 0; i < 3; ++i) a.push_back(cache.open()), b.push_back(other.open());
  a[0].protect(3, 5), b[0].protect(3, 5);
  a[2].protect(0, 2), b[2].protect(0, 2);

  const auto round = [&](const std::vector<one_step>& wanted) {
    steps_of one(cache, a, wanted, s);
    steps_of two(other, b, wanted, s);
    for (int l = 0; l < s.shape.layers; ++l) {
      const auto x = one.layer(l, true), y = two.layer(l, false);
      for (std::size_t i = 0; i < x.size(); ++i) {
        CAPTURE(l, i, a[i].length());
        if (tolerance == 0) REQUIRE(x[i] == y[i]);
        for (std::size_t r = 0; r < x[i].size(); r += 64)
          REQUIRE(test::relative_error(x[i].data() + r, y[i].data() + r, 64) <= tolerance);
      }
    }
    one.commit(true), two.commit(false);
    for (std::size_t i = 0; i < a.size(); ++i) {
      REQUIRE(a[i].length() == b[i].length());
      for (int slot = 0; slot < cache.plan().slots(); ++slot)
        for (int h = 0; h < s.shape.kv_heads; ++h) {
          CAPTURE(i, slot, h, a[i].length());
          REQUIRE(a[i].positions(slot, h) == b[i].positions(slot, h));
        }
    }
  };
  round({{30}, {1}, {22, {.more = true}}});
  round({{1}, {4, {.decode = true}, 2}, {26}});
  for (int i = 0; i < tokens; ++i) round({{}, {}, {}});
  a.push_back(a[0].fork()), b.push_back(b[0].fork());
  round({{}, {}, {1, {}, 0}, {}});
  for (int i = 0; i < 2 * tokens; ++i) round({{}, {}, {}, {}});
  round({{2, {.decode = true}, 1}, {20, {.more = true}}, {}, {}});
  const kv::report_data x = kv::report(cache), y = kv::report(other);
  CHECK(x.rows_kept == y.rows_kept);
  CHECK(x.page_bytes == y.page_bytes);
  if constexpr (std::is_same_v<Together, Alone>)  // codes: one step after the other from here on
    for (std::size_t i = 0; i < a.size(); ++i) REQUIRE(test::feed(cache, a[i], s, 1) == test::feed(other, b[i], s, 1));
}

}  // namespace laws
