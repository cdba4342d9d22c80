// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include <tersekv/codec/kivi.hpp>
#include <tersekv/error.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

namespace kivi_test {

template <int Bits, int Group = 32>
using in_rows = kv::kivi<Bits, Group, 128, kv::reopened, kv::layout::rows>;

TEMPLATE_TEST_CASE_SIG("kivi stays within half a step, per channel for keys and per row for values", "[codec]",
                       ((int Bits, int Group), Bits, Group), (2, 32), (2, 64), (3, 32), (4, 32), (4, 8), (8, 32)) {
  for (const int dim : {1, 8, 20, 40, 64, 72, 80, 128}) {
    const auto keys = laws::affine_channels(Bits, Group);
    const auto values = laws::affine_rows(Bits, Group);
    if (dim <= Group || dim % Group == 0) {
      laws::packs_well(kv::kivi<Bits, Group>{}, dim, keys, values);
      laws::packs_well(in_rows<Bits, Group>{}, dim, keys, values);
    } else {  // keys only
      for (const int ragged : {0, 3 * Group}) {
        laws::stays_within_its_bound(kv::kivi<Bits, Group>{}.for_keys(), dim, keys, ragged);
        laws::keeps_its_storage_laws(kv::kivi<Bits, Group>{}.for_keys(), dim, ragged);
        laws::keeps_its_storage_laws(in_rows<Bits, Group>{}.for_keys(), dim, ragged);
      }
    }
  }
}

TEST_CASE("kivi in rows packs keys along tokens and values along channels", "[codec]") {
  std::uint32_t word = 0;
  const auto at = [&](const laws::bytes& tile, std::size_t offset) {
    std::memcpy(&word, tile.data() + offset, 4);
    return word;
  };
  // Channel 1 counts with the tokens, channel 0 is still.
  const auto two = laws::fill(32, 2, [](int t, int c) { return c == 1 ? static_cast<float>(t % 4) : 5.0f; });
  const auto keys = laws::encoded(in_rows<2>{}.for_keys(), two, 2, 32);
  REQUIRE(keys.size() == 2 * (8 + 4));
  CHECK(at(keys, 0) == 0u);
  CHECK(at(keys, 8) == 0xE4E4E4E4u);
  CHECK(at(keys, 12) == 0xE4E4E4E4u);
  CHECK(at(keys, 16) == 0x3c000000u);  // steps 0 and 1
  CHECK(at(keys, 20) == 0x00004500u);  // minima 5 and 0
  const auto sixteen = laws::fill(32, 1, [](int t, int) { return static_cast<float>(t % 16); });
  const auto four = laws::encoded(in_rows<4>{}.for_keys(), sixteen, 1, 32);
  CHECK(at(four, 0) == 0x76543210u);
  CHECK(at(four, 4) == 0xFEDCBA98u);
  // Row 1 counts with the channels.
  const auto channels = laws::fill(2, 32, [](int t, int c) { return t == 1 ? static_cast<float>(c % 4) : 5.0f; });
  const auto values = laws::encoded(in_rows<2>{}.for_values(), channels, 32, 2);
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
  CHECK_THROWS_WITH(kv::kivi<2>{}.for_keys().check(4100),
                    "tersekv::kivi: the head dimension is 4100, but at most 4096");
  CHECK_THROWS_WITH(kv::kivi<2>{}.for_values().check(80),
                    "tersekv::kivi: the head dimension is 80, but must be a multiple of 32");
}

}  // namespace kivi_test
