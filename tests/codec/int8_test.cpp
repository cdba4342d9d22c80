// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/int8.hpp>
#include <tersekv/error.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

TEST_CASE("int8 keeps the laws of formats within half a step", "[codec]") {
  for (const int dim : {8, 20, 40, 64, 72, 80, 96, 128}) {
    laws::packs_well(kv::int8<>{}, dim, laws::symmetric_rows(8, 0));
    laws::packs_well(kv::int8<0, kv::layout::rows>{}, dim, laws::symmetric_rows(8, 0));
  }
  laws::packs_well(kv::int8<32>{}, 128, laws::symmetric_rows(8, 32));
}

TEST_CASE("int8 in rows stores signed bytes in channel order, then the scale", "[codec]") {
  std::vector<float> x(64, 0.0f);
  x[0] = 127, x[1] = -127, x[2] = 3, x[3] = -2.4f, x[63] = -1;
  const auto tile = laws::encoded(kv::int8<0, kv::layout::rows>{}.for_keys(), x, 64, 1);
  REQUIRE(tile.size() == 66);
  const auto code = [&](std::size_t i) { return static_cast<int>(static_cast<signed char>(tile[i])); };
  CHECK(code(0) == 127);
  CHECK(code(1) == -127);
  CHECK(code(2) == 3);
  CHECK(code(3) == -2);
  CHECK(code(4) == 0);
  CHECK(code(63) == -1);
  CHECK(tile[64] == std::byte{0x00});
  CHECK(tile[65] == std::byte{0x3c});  // 1.0
}

TEST_CASE("int8 costs 8 bits and 16 per group", "[codec]") {
  CHECK(laws::bits_per_number(kv::int8<>{}.for_keys(), 32, 128) == 8.125);
  CHECK(laws::bits_per_number(kv::int8<>{}.for_keys(), 32, 64) == 8.25);
  CHECK(laws::bits_per_number(kv::int8<32>{}.for_keys(), 32, 128) == 8.5);
  CHECK(laws::gaussian_error(kv::int8<32>{}.for_keys()) == Approx(2.9e-5).epsilon(0.03));
}

TEST_CASE("int8 says which head dimensions fit", "[codec]") {
  CHECK_NOTHROW(kv::int8<32>{}.for_keys().check(16));  // one group
  CHECK_THROWS_WITH(kv::int8<32>{}.for_keys().check(80),
                    "tersekv::int8: the head dimension is 80, but must be a multiple of 32");
  CHECK_THROWS_AS(kv::int8<32>{}.for_keys().check(80), kv::shape_error);
}
