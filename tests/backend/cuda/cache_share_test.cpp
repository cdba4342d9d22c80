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
