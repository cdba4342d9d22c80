// SPDX-License-Identifier: Apache-2.0
// Recipes on the device against the same recipes on the CPU: rows that leave.
#include "same_cache.hpp"

namespace kv = tersekv;

TEST_CASE("rows that received most attention", "[cuda]") {
  same::cache(2e-2, kv::h2o{.heavy = 16, .recent = 8}, kv::int8<>{});
}
TEST_CASE("rows that a window of queries looks at, spread over heads, while decoding too", "[cuda]") {
  same::cache(2e-3, kv::snapkv{.rows = 40, .window = 8, .when = kv::every(4)}, kv::ada{}, kv::dense<float>{});
}
TEST_CASE("rows that the newest query looks at", "[cuda]") { same::cache(2e-3, kv::tova{.rows = 24}); }
TEST_CASE("rows with keys that differ", "[cuda]") {
  same::cache(2e-2, kv::keydiff{.rows = 24, .recent = 8}, kv::kivi<4, 32, 32>{});
}
TEST_CASE("slots that pass in portions, rows that the caller protects",
          "[cuda]") {  // one slot's lists are larger than this
  kv::cuda small;
  small.scratch_bytes = 1000;
  same::cache_on(small, 3, 2e-2, kv::h2o{.heavy = 16, .recent = 8}, kv::int8<>{});
  same::cache_on(small, 3, 2e-2, kv::snapkv{.rows = 40, .window = 8}, kv::cla<3>{}, kv::int4<>{});
}
