// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/affine.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

TEMPLATE_TEST_CASE_SIG("affine stays within half a step", "[codec]", ((int Bits, int Group), Bits, Group), (2, 32),
                       (3, 32), (4, 0), (4, 8), (5, 16), (8, 64)) {
  for (const int dim : {8, 16, 64, 72, 96, 128, 320}) {
    if (Group != 0 && dim > Group && dim % Group != 0) continue;
    laws::packs_well(kv::affine<Bits, Group>{}, dim, laws::affine_rows(Bits, Group));
    laws::packs_well(kv::affine<Bits, Group, kv::layout::rows>{}, dim, laws::affine_rows(Bits, Group));
  }
}

TEST_CASE("affine takes head dimensions that fill no byte", "[codec]") {
  for (const int dim : {1, 3, 7, 12, 20, 41}) {
    laws::packs_well(kv::affine<3>{}, dim, laws::affine_rows(3, 0));
    laws::packs_well(kv::affine<4, 0>{}, dim, laws::affine_rows(4, 0));
    laws::packs_well(kv::affine<3, 0, kv::layout::rows>{}, dim, laws::affine_rows(3, 0));
  }
  laws::packs_well(kv::affine<4, 3>{}, 12, laws::affine_rows(4, 3));
  laws::packs_well(kv::affine<4, 3, kv::layout::rows>{}, 12, laws::affine_rows(4, 3));  // groups begin inside a byte
  laws::packs_well(kv::affine<2, 300>{}, 600, laws::affine_rows(2, 300));
}

TEST_CASE("affine loses what the grid loses on normal numbers", "[codec]") {
  const auto near = [](double want) { return Approx(want).epsilon(0.03); };
  CHECK(laws::gaussian_error(kv::affine<2, 32>{}.for_keys()) == near(.155));
  CHECK(laws::gaussian_error(kv::affine<2, 64>{}.for_keys()) == near(.202));
  CHECK(laws::gaussian_error(kv::affine<2, 128>{}.for_keys()) == near(.251));
  CHECK(laws::gaussian_error(kv::affine<3, 32>{}.for_keys()) == near(.0282));
  CHECK(laws::gaussian_error(kv::affine<3, 64>{}.for_keys()) == near(.0370));
  CHECK(laws::gaussian_error(kv::affine<3, 128>{}.for_keys()) == near(.0457));
  CHECK(laws::gaussian_error(kv::affine<4, 32>{}.for_keys()) == near(.00610));
  CHECK(laws::gaussian_error(kv::affine<4, 64>{}.for_keys()) == near(.00805));
  CHECK(laws::gaussian_error(kv::affine<4, 128>{}.for_keys()) == near(.00997));
}

TEST_CASE("affine costs its bits and 32 per group", "[codec]") {
  const auto bits = [](auto codec) { return laws::bits_per_number(codec.for_keys(), 32, 128); };
  CHECK(bits(kv::affine<2, 32>{}) == 3.0);
  CHECK(bits(kv::affine<2, 64>{}) == 2.5);
  CHECK(bits(kv::affine<2, 128>{}) == 2.25);
  CHECK(bits(kv::affine<3, 32>{}) == 4.0);
  CHECK(bits(kv::affine<4, 64>{}) == 4.5);
  CHECK(bits(kv::affine<8, 0>{}) == 8.25);
}

TEST_CASE("affine keeps offsets that are much larger than the range", "[codec]") {
  const auto f = kv::affine<4, 32>{}.for_keys();
  auto x = laws::gaussian(64, 128);
  for (float& v : x) v += 1000;  // 16 bit are 0.5 or 1 apart here
  const auto y = laws::round_trip(f, x, 128);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, static_cast<double>(std::abs(x[i] - y[i])));
  CHECK(worst < 0.3);  // half a step of a range of about 8, and not the 0.5 of a minimum rounded to nearest
}
