// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
// Steps that are appended, attended and committed as a batch: what each would be alone, on the device and on the CPU.
#include <tersekv/backend/cuda.cuh>

#include "../../laws/batch.hpp"
#include "simt/sanitizers.hpp"

namespace kv = tersekv;

namespace {
constexpr int tokens = simt::address_sanitizer ? 3 : 15;
}

TEST_CASE("a batch on a device is its steps one after the other", "[cuda]") {
  laws::batch<kv::cuda, kv::cuda>(1e-5, tokens, kv::int4<>{});
}
TEST_CASE("sequences whose rows leave are committed beside others that only grow", "[cuda]") {
  laws::batch<kv::cuda, kv::cuda>(0, tokens, kv::h2o{.heavy = 12, .recent = 8, .when = kv::every(3)}, kv::d2o{},
                                  kv::kivi<4, 8, 8>{});
}
TEST_CASE("windows of queries of some sequences of a batch", "[cuda]") {
  laws::batch<kv::cuda, kv::cuda>(1e-5, tokens, kv::snapkv{.rows = 24, .window = 8, .when = kv::every_chunk},
                                  kv::int8<>{});
}
TEST_CASE("a batch on a device is the CPU's", "[cuda]") {
  laws::batch<kv::cuda, kv::cpu>(2e-2, tokens, kv::yoco{.window = 30}, kv::h2o{.heavy = 16, .recent = 8}, kv::int8<>{});
}
