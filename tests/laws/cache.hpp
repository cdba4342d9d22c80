// SPDX-License-Identifier: Apache-2.0
// What every recipe must keep to, whatever its policies.
#pragma once
#include <algorithm>
#include <cmath>

#include "../support.hpp"

#include "../catch.hpp"

namespace laws {

namespace kv = tersekv;

/// Runs n tokens through all layers as the recipe's schedule asks; returns the outputs [layers][n, query_heads, dim].
template <class Cache, class Step>
std::vector<std::vector<float>> pass(const Cache& cache, Step& step, test::stream& s, int first, int n) {
  std::vector<std::vector<float>> out(static_cast<std::size_t>(s.shape.layers));
  for (const kv::layer_range range : cache.schedule(n))
    for (int pass = 0; pass < range.passes; ++pass)
      for (int l = range.first; l <= range.last; ++l) {
        if (cache.owns(l)) step.append(l, s.keys(l, first, n), s.values(l, first, n));
        auto& o = out[static_cast<std::size_t>(l)];
        o.resize(static_cast<std::size_t>(n * s.shape.query_heads * s.shape.value_dim));
        step.attend(l, s.queries(l, first, n), kv::view(o.data(), n, s.shape.query_heads, s.shape.value_dim));
      }
  return out;
}

template <class Cache, class Sequence>
std::vector<std::vector<float>> advance(const Cache& cache, Sequence& sequence, test::stream& s, int n,
                                        bool more = false) {
  auto step = sequence.step(n, {.more = more});
  auto out = pass(cache, step, s, sequence.length(), n);
  step.commit();
  return out;
}

/// Same positions in every slot and head.
template <class Cache, class Sequence>
bool same_rows(const Cache& cache, const Sequence& a, const Sequence& b) {
  for (int slot = 0; slot < cache.plan().slots(); ++slot)
    for (int h = 0; h < cache.shape().kv_heads; ++h)
      if (a.positions(slot, h) != b.positions(slot, h)) return false;
  return true;
}

/// The outputs of one decoded token against float64 attention over the rows that the sequence held.
template <class Cache>
double worst_error(const Cache& cache, const test::stream& s, int t,
                   const std::vector<std::vector<std::vector<int>>>& held,
                   const std::vector<std::vector<float>>& outputs) {
  const kv::layer_plan& plan = cache.plan();
  double worst = 0;
  for (int l = 0; l < s.shape.layers; ++l)
    for (int q = 0; q < s.shape.query_heads; ++q) {
      const int h = q / s.shape.group(), writer = plan.kv(l);
      std::vector<const float*> keys, values;
      const auto see = [&](int p) {
        if (plan.window(l) > 0 && p <= t - plan.window(l)) return;
        keys.push_back(s.key(writer, p, h)), values.push_back(s.value(writer, p, h));
      };
      for (const int p : held[static_cast<std::size_t>(plan.slot(l))][static_cast<std::size_t>(h)]) see(p);
      if (plan.sees_self(l)) see(t);
      const auto want = test::attention(s.query(l, t, q), keys, values, s.shape.head_dim, s.shape.value_dim,
                                        static_cast<double>(s.shape.scale));
      worst = std::max(worst, test::relative_error(outputs[static_cast<std::size_t>(l)].data() + q * s.shape.value_dim,
                                                   want.data(), s.shape.value_dim));
    }
  return worst;
}

/// budget: rows per head that the recipe may hold after a step of decoding, on average over heads; 0 = any number.
/// tolerance: of attention over the rows held, relative; 0 = not comparable (rows are merged, turned, or not all read).
template <class... Ps>
void cache(int budget, double tolerance, Ps... policies) {
  test::counting_resource memory;
  kv::cpu backend;
  backend.memory = &memory;
  {
    test::stream s({.layers = 4, .query_heads = 4, .kv_heads = 2, .head_dim = 32}, 200, 42);
    auto cache = kv::make_cache(s.shape, backend, policies...);
    auto chat = cache.open();
    auto twin = cache.open();
    const auto both = [&](int n, bool more) {
      const auto a = advance(cache, chat, s, n, more), b = advance(cache, twin, s, n, more);
      REQUIRE(a == b);  // the same steps give the same numbers
      for (const auto& layer : a)
        for (const float x : layer) REQUIRE(std::isfinite(x));
    };
    both(57, true);
    both(43, false);
    for (int i = 0; i < 20; ++i) both(1, false);

    {  // a step that is dropped has not happened
      auto step = chat.step(3, {.decode = true});
      pass(cache, step, s, chat.length(), 3);
    }
    REQUIRE(same_rows(cache, chat, twin));
    both(1, false);

    auto fork = chat.fork();  // both sides go on as if they were alone
    for (int i = 0; i < 25; ++i) {
      auto other = advance(cache, fork, s, 1);
      if (i == 0) REQUIRE(other == advance(cache, twin, s, 1));
    }
    const auto alone = advance(cache, chat, s, 1);
    for (int i = 0; i < 24; ++i) REQUIRE_FALSE(advance(cache, twin, s, 1).empty());
    REQUIRE(same_rows(cache, fork, twin));

    std::size_t kept = 0;
    std::vector<std::vector<std::vector<int>>> held;
    for (int slot = 0; slot < cache.plan().slots(); ++slot) {
      held.emplace_back();
      int sum = 0;
      for (int h = 0; h < 2; ++h) {
        const auto positions = fork.positions(slot, h);
        REQUIRE(std::is_sorted(positions.begin(), positions.end()));
        REQUIRE(std::adjacent_find(positions.begin(), positions.end()) == positions.end());
        REQUIRE(!positions.empty());
        REQUIRE(positions.back() < fork.length());
        held.back().push_back(positions);
        sum += static_cast<int>(positions.size());
        kept += positions.size();
      }
      if (budget > 0)
        REQUIRE(sum <= 2 * budget * (cache.plan().slots() > 1 ? 2 : 1));  // layers may differ, up to twice
    }
    // a tenth more: windowed slots protect fewer rows, and what pyramid spreads over slots is what is not protected
    if (budget > 0) REQUIRE(10 * kept <= 11 * static_cast<std::size_t>(budget * 2 * cache.plan().slots()));

    // Rows of pages, at most twice over where groups are reopened only when two pages fit in one; a page and columns
    // more
    const std::size_t heads = static_cast<std::size_t>(cache.plan().slots()) * 2;
    const std::size_t page = cache.page_bytes(), row = page / static_cast<std::size_t>(cache.page_rows);
    const std::size_t dense_row = 2 * 64, columns = 24;
    const std::size_t factor = decltype(cache)::core_type::page::span > 1 ? 2 : 1;
    const std::size_t bound =
        kept * (factor * std::max(row, dense_row) + factor * columns) + heads * (page + 160 * columns + 64 * dense_row);
    REQUIRE(fork.report().bytes <= bound + fork.report().ring_bytes);

    if (tolerance > 0) {
      const int t = fork.length();
      REQUIRE(worst_error(cache, s, t, held, advance(cache, fork, s, 1)) < tolerance);
    }
  }
  REQUIRE(memory.held == 0);  // everything was returned
}

}  // namespace laws
