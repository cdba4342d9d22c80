// SPDX-License-Identifier: Apache-2.0
// Kernels over keys that are packed a span of rows at a time.
#include "promises.hpp"

#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/codec/keys_values.hpp>
#include <tersekv/codec/kivi.hpp>

namespace kv = tersekv;
using test::briefly;

TEST_CASE("kernels over spans of any length keep the promise", "[backend]") {
  promises::keeps_all(briefly<kv::kivi<3, 64>>("kivi<3, 64>"));
  promises::keeps_all(briefly<kv::kivi<4, 128>>("kivi<4, 128>"));
  promises::keeps_all(briefly<kv::kivi<8, 32>>("kivi<8, 32>"));
}
TEST_CASE("keys in spans go with values in blocks", "[backend]") {
  promises::keeps_all(briefly<kv::keys_values<kv::keys<kv::kivi<2>>, kv::values<kv::q8_0>>>("kivi<2>, q8_0"));
}
