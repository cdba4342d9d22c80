// SPDX-License-Identifier: Apache-2.0
// The other families; see kernel_test.cpp.
#include "promises.hpp"

#include <tersekv/adapt/through.hpp>
#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/ggml_q4_0.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/kivi.hpp>

namespace kv = tersekv;

TEST_CASE("a kernel over spans of rows errs by less than an eighth of the codec", "[backend]") {
  promises::keeps_all(test::briefly<kv::kivi<2>>("kivi<2>"));
}
TEST_CASE("a kernel over two bits, a step per row, errs by less than an eighth of the codec", "[backend]") {
  promises::keeps_all(test::briefly<kv::affine<2, 0>>("affine<2>"));
}
TEST_CASE("a kernel over eight-bit codes errs by less than a thousandth", "[backend]") {
  promises::keeps_all(test::briefly<kv::int8<>>("int8"));
}
TEST_CASE("a kernel over steps with signs errs by less than an eighth of the codec", "[backend]") {
  promises::keeps_all(test::briefly<kv::q4_0>("q4_0"));
}
TEST_CASE("a kernel over 16-bit numbers is exact up to float rounding", "[backend]") {
  promises::keeps_all(test::named<kv::dense<kv::half>>("f16"));
}
