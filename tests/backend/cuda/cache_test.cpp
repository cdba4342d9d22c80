// SPDX-License-Identifier: Apache-2.0
// Recipes on the device against the same recipes on the CPU: codecs.
#include "same_cache.hpp"

namespace kv = tersekv;

TEST_CASE("every row, as plain numbers", "[cuda]") { same::cache(2e-3); }
TEST_CASE("keys and values of different codecs", "[cuda]") {
  same::cache(2e-2, kv::keys<kv::int8<>>{}, kv::values<kv::q4_0>{});
}
TEST_CASE("rows that wait in a window and leave it in groups", "[cuda]") { same::cache(2e-2, kv::kivi<2, 32, 32>{}); }
TEST_CASE("sinks in full precision, rows behind a transform", "[cuda]") {
  same::cache(2e-2, kv::sinks<4, kv::through<kv::hadamard, kv::int4<>>>{});
}
