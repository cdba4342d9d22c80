// SPDX-License-Identifier: Apache-2.0
// Recipes on the device against the same recipes on the CPU: rows that are folded.
#include "same_cache.hpp"

namespace kv = tersekv;

TEST_CASE("leavers fold into rows with similar keys", "[cuda]") {
  same::cache(2e-2, kv::h2o{.heavy = 16, .recent = 8}, kv::d2o{}, kv::int8<>{});
}
TEST_CASE("rows carry the mass of those that they took in", "[cuda]") {
  same::cache(2e-2, kv::streaming_llm{.sinks = 4, .recent = 28}, kv::log_mass<kv::d2o>{});
}
TEST_CASE("values go to the next row", "[cuda]") {
  same::cache(2e-2, kv::h2o{.heavy = 16, .recent = 8}, kv::weighted_kv{}, kv::kivi<4, 32, 32>{});
}
