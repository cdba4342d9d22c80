// SPDX-License-Identifier: Apache-2.0
// Recipes on the device against the same recipes on the CPU: shared slots, budgets over layers, selected pages.
#include "same_cache.hpp"

namespace kv = tersekv;

TEST_CASE("layers that read a slot below", "[cuda]") { same::cache(2e-3, kv::cla<2>{}); }
TEST_CASE("layers that read the top", "[cuda]") { same::cache(2e-2, kv::lckv<2>{}, kv::int8<>{}); }
TEST_CASE("readers of a sliding window, budgets over layers", "[cuda]") {
  same::cache(2e-3, kv::yoco{.window = 30}, kv::knorm{.rows = 40, .recent = 8}, kv::pyramid{});
}
TEST_CASE("pages that queries choose", "[cuda]") { same::cache(2e-2, kv::quest{.rows = 32}, kv::int4<>{}); }

TEST_CASE("how much a pass changes rows is what the CPU says", "[cuda]") {
  test::stream s({.layers = 6, .query_heads = 4, .kv_heads = 2, .head_dim = 64}, 20, 9);
  auto here = kv::make_cache(s.shape, kv::cpu{}, kv::lckv<2>{});
  auto there = kv::make_cache(s.shape, kv::cuda{}, kv::lckv<2>{});
  auto a = here.open();
  auto b = there.open();
  auto one = a.step(5);
  auto two = b.step(5);
  for (const int first : {0, 5, 6, 6})
    for (int l = 0; l < s.shape.layers; ++l) {
      if (!here.owns(l)) continue;
      CAPTURE(first, l);
      one.append(l, s.keys(l, first, 5), s.values(l, first, 5));
      two.append(l, s.keys(l, first, 5), s.values(l, first, 5));
      CHECK(two.change(l) == one.change(l));
    }
  for (int l = 0; l < s.shape.layers; ++l)
    if (there.owns(l)) CHECK(two.change(l) == 0.0f);  // the last pass was the one before
}
