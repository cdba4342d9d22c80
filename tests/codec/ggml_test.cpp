// SPDX-License-Identifier: Apache-2.0
// q8_0, q4_0 and iq4_nl together: they share the golden blocks.
#include <tersekv/codec/ggml_iq4_nl.hpp>
#include <tersekv/codec/ggml_q4_0.hpp>
#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/error.hpp>

#include "golden/ggml_blocks.hpp"
#include "laws/codec.hpp"

namespace kv = tersekv;

namespace ggml_test {
/// Codes are found with d, decoded with f16(d).
auto block_bound(double levels, double steps) {
  return [=](const std::vector<float>& x, int dim, int r, int c) {
    const auto [low, high] = laws::ends(x, dim, r, r + 1, c / 32 * 32, c / 32 * 32 + 32);
    const double top = std::max(high, -low), d = top / levels;
    if (top < 1e-36) return top;  // the reciprocal of d overflows
    return steps * d + levels * (std::ldexp(d, -11) + std::ldexp(1.0, -25)) + std::ldexp(top, -21);
  };
}
/// Levels are up to 24 steps apart and the last one ends 14 before the largest number; the step is fitted afterwards.
double level_bound(const std::vector<float>& x, int dim, int r, int c) {
  const auto [low, high] = laws::ends(x, dim, r, r + 1, c / 32 * 32, c / 32 * 32 + 32);
  const double top = std::max(high, -low);
  return top < 1e-15 ? top : 0.22 * top + 127 * std::ldexp(1.0, -25);
}
using q8_rows = kv::basic_q8_0<kv::layout::rows>;
using q4_rows = kv::basic_q4_0<kv::layout::rows>;
using iq4_rows = kv::basic_iq4_nl<kv::layout::rows>;

std::vector<float> join(const std::vector<float>& a, const std::vector<float>& b) {
  auto out = a;
  out.insert(out.end(), b.begin(), b.end());
  return out;
}
TEST_CASE("q8_0 keeps the laws of formats within half a step", "[codec]") {
  for (const int dim : {32, 64, 96, 128}) {
    laws::packs_well(kv::q8_0{}, dim, block_bound(127, 0.5));
    laws::packs_well(q8_rows{}, dim, block_bound(127, 0.5));
  }
}

TEST_CASE("q4_0 keeps the laws of formats within a step", "[codec]") {
  for (const int dim : {32, 64, 96, 128}) {
    laws::packs_well(kv::q4_0{}, dim, block_bound(8, 1.0));
    laws::packs_well(q4_rows{}, dim, block_bound(8, 1.0));
  }
}

TEST_CASE("iq4_nl keeps the laws of formats", "[codec]") {
  for (const int dim : {32, 64, 96, 128}) {
    laws::packs_well(kv::iq4_nl{}, dim, level_bound);
    laws::packs_well(iq4_rows{}, dim, level_bound);
  }
}

TEST_CASE("rows are ggml's rows, byte for byte", "[codec]") {
  const auto x = join(golden::counting(), golden::spread());
  const std::string q8 = std::string(golden::q8_0_counting) + std::string(golden::q8_0_spread);
  const std::string q4 = std::string(golden::q4_0_counting) + std::string(golden::q4_0_spread);
  const std::string iq4 = std::string(golden::iq4_nl_counting) + std::string(golden::iq4_nl_spread);
  CHECK(golden::hex(laws::encoded(iq4_rows{}.for_keys(), x, 64, 1)) == iq4);
  CHECK(golden::hex(laws::encoded(q8_rows{}.for_keys(), x, 64, 1)) == q8);
  CHECK(golden::hex(laws::encoded(q4_rows{}.for_keys(), x, 64, 1)) == q4);
  CHECK(golden::hex(laws::encoded(q8_rows{}.for_keys(), join(x, x), 64, 2)) == q8 + q8);
  CHECK(golden::hex(laws::encoded(q4_rows{}.for_keys(), join(x, x), 64, 2)) == q4 + q4);
  for (const float zero : {0.0f, -0.0f}) {
    CHECK(golden::hex(laws::encoded(q4_rows{}.for_keys(), std::vector<float>(32, zero), 32, 1)) == golden::q4_0_zero);
    CHECK(golden::hex(laws::encoded(q8_rows{}.for_keys(), std::vector<float>(32, zero), 32, 1)) ==
          std::string(68, '0'));
    for (const float v : laws::round_trip(kv::iq4_nl{}.for_keys(), std::vector<float>(32, zero), 32)) CHECK(v == 0.0f);
  }
}

TEST_CASE("q8_0 rounds halves away from zero", "[codec]") {
  std::vector<float> x(32, 0.0f);
  x[0] = 127, x[1] = 0.5f, x[2] = -0.5f, x[3] = 2.5f, x[4] = -2.5f, x[5] = 0.49999997f, x[6] = -126.5f;
  const auto tile = laws::encoded(q8_rows{}.for_keys(), x, 32, 1);
  const int want[] = {127, 1, -1, 3, -3, 0, -127};
  for (std::size_t i = 0; i < 7; ++i) CHECK(static_cast<int>(static_cast<signed char>(tile[2 + i])) == want[i]);
}

TEST_CASE("q4_0 takes the first of two largest magnitudes", "[codec]") {
  std::vector<float> x(32, 0.0f);
  x[3] = -8, x[7] = 8;
  auto tile = laws::encoded(q4_rows{}.for_keys(), x, 32, 1);
  CHECK(tile[1] == std::byte{0x3c});  // d = 1
  CHECK(laws::decoded(q4_rows{}.for_keys(), tile, 32, 1)[7] == 7.0f);
  x[3] = 8, x[7] = -8;
  tile = laws::encoded(q4_rows{}.for_keys(), x, 32, 1);
  CHECK(tile[1] == std::byte{0xbc});  // d = -1
  CHECK(laws::decoded(q4_rows{}.for_keys(), tile, 32, 1)[3] == 8.0f);
}

TEST_CASE("iq4_nl takes the nearest level, of two the larger", "[codec]") {
  using grid = kv::iq4_nl::grid;
  for (std::size_t k = 0; k < 16; ++k) CHECK(grid::nearest(grid::table[k]) == k);
  for (std::size_t k = 0; k < 15; ++k) {
    const float middle = static_cast<float>(grid::table[k] + grid::table[k + 1]) / 2;
    CHECK(grid::nearest(middle) == k + 1);
    CHECK(grid::nearest(std::nextafter(middle, -200.0f)) == k);
  }
  CHECK(grid::nearest(-1e30f) == 0);
  CHECK(grid::nearest(1e30f) == 15);
}

TEST_CASE("iq4_nl fits its step after the codes, weighted by squares", "[codec]") {
  std::vector<float> x(32, 0.0f);
  x[4] = 127, x[9] = -110;  // levels -127 and 113 of a step of -1
  double dot = 127.0 * 127 * 127 * 127 + 110.0 * 110 * 110 * 113,
         norm = 127.0 * 127 * 127 * 127 + 110.0 * 110 * 113 * 113;
  const auto y = laws::round_trip(kv::iq4_nl{}.for_values(), x, 32);
  CHECK(y[4] == Approx(127 * dot / norm).epsilon(1e-3));
  CHECK(y[9] == Approx(-113 * dot / norm).epsilon(1e-3));
  CHECK(y[0] == Approx(-dot / norm).epsilon(1e-3));  // no level is zero
}

TEST_CASE("the blocks lose what is published on normal numbers, at their bits", "[codec]") {
  CHECK(laws::gaussian_error(kv::q8_0{}.for_keys()) == Approx(2.9e-5).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::q4_0{}.for_keys()) == Approx(.00739).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::iq4_nl{}.for_keys()) == Approx(.00618).epsilon(0.03));
  CHECK(laws::bits_per_number(kv::iq4_nl{}.for_keys(), 32, 128) == 4.5);
  CHECK(laws::bits_per_number(q4_rows{}.for_keys(), 32, 128) == 4.5);
  CHECK(laws::bits_per_number(kv::q8_0{}.for_keys(), 32, 128) == 8.5);
  CHECK(laws::bits_per_number(kv::q4_0{}.for_keys(), 32, 128) == 4.5);
}

TEST_CASE("the blocks say which head dimensions fit", "[codec]") {
  CHECK_THROWS_WITH(kv::q8_0{}.for_keys().check(40),
                    "tersekv::q8_0: the head dimension is 40, but must be a multiple of 32");
  CHECK_THROWS_WITH(kv::q4_0{}.for_values().check(80),
                    "tersekv::q4_0: the head dimension is 80, but must be a multiple of 32");
  CHECK_THROWS_WITH(kv::iq4_nl{}.for_values().check(80),
                    "tersekv::iq4_nl: the head dimension is 80, but must be a multiple of 32");
  CHECK_THROWS_AS(kv::q4_0{}.for_keys().check(8), kv::shape_error);
  CHECK_THROWS_AS(q4_rows{}.for_keys().check(8), kv::shape_error);
}

}  // namespace ggml_test
