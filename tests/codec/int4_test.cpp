// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/int4.hpp>
#include <tersekv/error.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

TEST_CASE("int4 keeps the laws of formats within half a step", "[codec]") {
  for (const int dim : {8, 64, 96, 128}) {
    laws::packs_well(kv::int4<>{}, dim, laws::affine_rows(4, 32));
    laws::packs_well(kv::int4<32, kv::layout::rows>{}, dim, laws::affine_rows(4, 32));
  }
  for (const int dim : {20, 40, 72, 80}) {
    laws::packs_well(kv::int4<0>{}, dim, laws::affine_rows(4, 0));
    laws::packs_well(kv::int4<0, kv::layout::rows>{}, dim, laws::affine_rows(4, 0));
    if (dim % 8 == 0) laws::packs_well(kv::int4<8>{}, dim, laws::affine_rows(4, 8));
  }
}

TEST_CASE("int4 in rows stores the even channel in the low half of a byte, then steps, then minima", "[codec]") {
  const auto f = kv::int4<32, kv::layout::rows>{}.for_keys();
  std::vector<float> x;
  for (int r = 0; r < 2; ++r)
    for (int c = 0; c < 32; ++c) x.push_back(static_cast<float>((c + r) % 16 - 3));
  const auto tile = laws::encoded(f, x, 32, 2);
  REQUIRE(tile.size() == 2 * 20);
  for (std::size_t j = 0; j < 8; ++j) CHECK(tile[j] == static_cast<std::byte>((2 * j) | (2 * j + 1) << 4));
  CHECK(tile[16] == std::byte{0x21});  // second row
  for (const std::size_t at : {32u, 34u}) CHECK((tile[at] == std::byte{0x00} && tile[at + 1] == std::byte{0x3c}));  // 1
  for (const std::size_t at : {36u, 38u})
    CHECK((tile[at] == std::byte{0x00} && tile[at + 1] == std::byte{0xc2}));  // -3
  CHECK(laws::decoded(f, tile, 32, 2) == x);
}

TEST_CASE("int4 costs 4 bits and 32 per group", "[codec]") {
  CHECK(laws::bits_per_number(kv::int4<>{}.for_keys(), 32, 128) == 5.0);
  CHECK(laws::bits_per_number(kv::int4<0>{}.for_keys(), 32, 128) == 4.25);
  CHECK(laws::gaussian_error(kv::int4<>{}.for_keys()) == Approx(.00610).epsilon(0.03));
}

TEST_CASE("int4 says which head dimensions fit", "[codec]") {
  CHECK_THROWS_WITH(kv::int4<>{}.for_keys().check(40),
                    "tersekv::int4: the head dimension is 40, but must be a multiple of 32");
  CHECK_THROWS_AS(kv::int4<>{}.for_values().check(80), kv::shape_error);
  CHECK_NOTHROW(kv::int4<0>{}.for_values().check(80));
  CHECK_NOTHROW(kv::int4<>{}.for_values().check(4096));
  CHECK_THROWS_WITH(kv::int4<>{}.for_values().check(4128),
                    "tersekv::int4: the head dimension is 4128, but at most 4096");
}
