// SPDX-License-Identifier: Apache-2.0
// Kernels of ggml's blocks of 8 bits, behind transforms, and of keys and values of different codecs.
#include "promises.hpp"

#include <tersekv/adapt/through.hpp>
#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/keys_values.hpp>

namespace kv = tersekv;
using test::briefly;

TEST_CASE("kernels over ggml's blocks of 8 bits keep the promise", "[backend]") {
  promises::keeps_all(briefly<kv::q8_0>("q8_0"));
}
TEST_CASE("kernels behind a transform keep the promise", "[backend]") {
  promises::keeps_all(briefly<kv::through<kv::hadamard, kv::int4<32>>>("int4<32> @ hadamard"));
}
TEST_CASE("keys and values may be packed differently", "[backend]") {
  promises::keeps_all(briefly<kv::keys_values<kv::keys<kv::int8<>>, kv::values<kv::affine<2, 32>>>>("int8, affine<2>"));
}
