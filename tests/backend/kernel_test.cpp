// SPDX-License-Identifier: Apache-2.0
// Packed kernels, one of every family, with every number of queries. Also compiled for each instruction set
// (CMakeLists.txt).
#include "promises.hpp"

#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/ggml_iq4_nl.hpp>
#include <tersekv/codec/int4.hpp>

namespace kv = tersekv;

TEST_CASE("a kernel over four-bit codes errs by less than an eighth of the codec", "[backend]") {
  promises::keeps_all(test::named<kv::int4<32>>("int4<32>"));
}
TEST_CASE("a kernel over planes of two and one bits errs by less than an eighth of the codec", "[backend]") {
  promises::keeps_all(test::briefly<kv::affine<3, 0>>("affine<3>"));
}
TEST_CASE("a kernel over codes that index a table errs by less than an eighth of the codec", "[backend]") {
  promises::keeps_all(test::briefly<kv::iq4_nl>("iq4_nl"));
}
