// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include <tersekv/codec/kivi.hpp>
#include <tersekv/error.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

TEMPLATE_TEST_CASE_SIG("kivi keys stay within half a step per channel", "[codec]", ((int Bits, int Group), Bits, Group),
                       (2, 32), (2, 64), (3, 32), (4, 32), (4, 8), (8, 32)) {
  const auto f = kv::kivi<Bits, Group>{}.for_keys();
  for (const int dim : {1, 8, 40, 64, 80, 96, 128}) {
    laws::stays_within_its_bound(f, dim, laws::affine_channels(Bits, Group));
    laws::keeps_its_storage_laws(f, dim);
  }
}

TEST_CASE("kivi values are rows of affine groups", "[codec]") {
  for (const int dim : {8, 32, 64, 96, 128}) {
    laws::stays_within_its_bound(kv::kivi<2>{}.for_values(), dim, laws::affine_rows(2, 32));
    laws::keeps_its_storage_laws(kv::kivi<2>{}.for_values(), dim);
  }
}

TEST_CASE("kivi packs keys along tokens and values along channels", "[codec]") {
  std::uint32_t word = 0;
  const auto at = [&](const laws::bytes& tile, std::size_t offset) {
    std::memcpy(&word, tile.data() + offset, 4);
    return word;
  };
  // Channel 1 counts with the tokens, channel 0 is still.
  const auto two = laws::fill(32, 2, [](int t, int c) { return c == 1 ? static_cast<float>(t % 4) : 5.0f; });
  const auto keys = laws::encoded(kv::kivi<2>{}.for_keys(), two, 2, 32);
  REQUIRE(keys.size() == 2 * (8 + 4));
  CHECK(at(keys, 0) == 0u);
  CHECK(at(keys, 8) == 0xE4E4E4E4u);
  CHECK(at(keys, 12) == 0xE4E4E4E4u);
  CHECK(at(keys, 16) == 0x3c000000u);  // steps 0 and 1
  CHECK(at(keys, 20) == 0x00004500u);  // minima 5 and 0
  const auto sixteen = laws::fill(32, 1, [](int t, int) { return static_cast<float>(t % 16); });
  const auto four = laws::encoded(kv::kivi<4>{}.for_keys(), sixteen, 1, 32);
  CHECK(at(four, 0) == 0x76543210u);
  CHECK(at(four, 4) == 0xFEDCBA98u);
  // Row 1 counts with the channels.
  const auto channels = laws::fill(2, 32, [](int t, int c) { return t == 1 ? static_cast<float>(c % 4) : 5.0f; });
  const auto values = laws::encoded(kv::kivi<2>{}.for_values(), channels, 32, 2);
  CHECK(at(values, 0) == 0u);
  CHECK(at(values, 8) == 0xE4E4E4E4u);
  CHECK(at(values, 12) == 0xE4E4E4E4u);
}

TEST_CASE("kivi loses what its grid loses on normal numbers, for keys and values alike", "[codec]") {
  CHECK(laws::gaussian_error(kv::kivi<2>{}.for_keys()) == Approx(.155).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::kivi<2>{}.for_values()) == Approx(.155).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::kivi<2, 64>{}.for_keys()) == Approx(.202).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::kivi<3>{}.for_keys()) == Approx(.0282).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::kivi<4>{}.for_keys()) == Approx(.00610).epsilon(0.03));
}

TEST_CASE("kivi costs its bits and 32 per group", "[codec]") {
  const auto bits = [](auto codec, int rows) {
    const double keys = laws::bits_per_number(codec.for_keys(), rows, 128);
    CHECK(laws::bits_per_number(codec.for_values(), rows, 128) == keys);
    return keys;
  };
  CHECK(bits(kv::kivi<2>{}, 32) == 3.0);
  CHECK(bits(kv::kivi<4>{}, 32) == 5.0);
  CHECK(bits(kv::kivi<2, 64>{}, 64) == 2.5);
  CHECK(bits(kv::kivi<4, 128>{}, 128) == 4.25);
}

TEST_CASE("kivi says which head dimensions fit", "[codec]") {
  CHECK_NOTHROW(kv::kivi<2>{}.for_keys().check(40));
  CHECK_NOTHROW(kv::kivi<2>{}.for_values().check(8));
  CHECK_THROWS_WITH(kv::kivi<2>{}.for_values().check(80),
                    "tersekv::kivi: the head dimension is 80, but must be a multiple of 32");
}
