// SPDX-License-Identifier: Apache-2.0
// q8_0 and q4_0 together: they share the golden blocks.
#include <tersekv/codec/ggml_q4_0.hpp>
#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/error.hpp>

#include "golden/ggml_blocks.hpp"
#include "laws/codec.hpp"

namespace kv = tersekv;

namespace {
/// Codes are found with d, decoded with f16(d).
auto block_bound(double levels, double steps) {
  return [=](const std::vector<float>& x, int dim, int r, int c) {
    const auto [low, high] = laws::ends(x, dim, r, r + 1, c / 32 * 32, c / 32 * 32 + 32);
    const double top = std::max(high, -low), d = top / levels;
    if (top < 1e-36) return top;  // the reciprocal of d overflows
    return steps * d + levels * (std::ldexp(d, -11) + std::ldexp(1.0, -25)) + std::ldexp(top, -21);
  };
}
std::vector<float> join(const std::vector<float>& a, const std::vector<float>& b) {
  auto out = a;
  out.insert(out.end(), b.begin(), b.end());
  return out;
}
}  // namespace

TEST_CASE("q8_0 keeps the laws of formats within half a step", "[codec]") {
  for (const int dim : {32, 64, 96, 128}) {
    laws::stays_within_its_bound(kv::q8_0{}.for_keys(), dim, block_bound(127, 0.5));
    laws::keeps_its_storage_laws(kv::q8_0{}.for_values(), dim);
  }
}

TEST_CASE("q4_0 keeps the laws of formats within a step", "[codec]") {
  for (const int dim : {32, 64, 96, 128}) {
    laws::stays_within_its_bound(kv::q4_0{}.for_keys(), dim, block_bound(8, 1.0));
    laws::keeps_its_storage_laws(kv::q4_0{}.for_values(), dim);
  }
}

TEST_CASE("rows are ggml's rows, byte for byte", "[codec]") {
  const auto x = join(golden::counting(), golden::spread());
  const std::string q8 = std::string(golden::q8_0_counting) + std::string(golden::q8_0_spread);
  const std::string q4 = std::string(golden::q4_0_counting) + std::string(golden::q4_0_spread);
  CHECK(golden::hex(laws::encoded(kv::q8_0{}.for_keys(), x, 64, 1)) == q8);
  CHECK(golden::hex(laws::encoded(kv::q4_0{}.for_keys(), x, 64, 1)) == q4);
  CHECK(golden::hex(laws::encoded(kv::q8_0{}.for_keys(), join(x, x), 64, 2)) == q8 + q8);
  CHECK(golden::hex(laws::encoded(kv::q4_0{}.for_keys(), join(x, x), 64, 2)) == q4 + q4);
  for (const float zero : {0.0f, -0.0f}) {
    CHECK(golden::hex(laws::encoded(kv::q4_0{}.for_keys(), std::vector<float>(32, zero), 32, 1)) == golden::q4_0_zero);
    CHECK(golden::hex(laws::encoded(kv::q8_0{}.for_keys(), std::vector<float>(32, zero), 32, 1)) ==
          std::string(68, '0'));
  }
}

TEST_CASE("q8_0 rounds halves away from zero", "[codec]") {
  std::vector<float> x(32, 0.0f);
  x[0] = 127, x[1] = 0.5f, x[2] = -0.5f, x[3] = 2.5f, x[4] = -2.5f, x[5] = 0.49999997f, x[6] = -126.5f;
  const auto tile = laws::encoded(kv::q8_0{}.for_keys(), x, 32, 1);
  const int want[] = {127, 1, -1, 3, -3, 0, -127};
  for (std::size_t i = 0; i < 7; ++i) CHECK(static_cast<int>(static_cast<signed char>(tile[2 + i])) == want[i]);
}

TEST_CASE("q4_0 takes the first of two largest magnitudes", "[codec]") {
  std::vector<float> x(32, 0.0f);
  x[3] = -8, x[7] = 8;
  auto tile = laws::encoded(kv::q4_0{}.for_keys(), x, 32, 1);
  CHECK(tile[1] == std::byte{0x3c});  // d = 1
  CHECK(laws::decoded(kv::q4_0{}.for_keys(), tile, 32, 1)[7] == 7.0f);
  x[3] = 8, x[7] = -8;
  tile = laws::encoded(kv::q4_0{}.for_keys(), x, 32, 1);
  CHECK(tile[1] == std::byte{0xbc});  // d = -1
  CHECK(laws::decoded(kv::q4_0{}.for_keys(), tile, 32, 1)[3] == 8.0f);
}

TEST_CASE("the blocks lose what is published on normal numbers, at their bits", "[codec]") {
  CHECK(laws::gaussian_error(kv::q8_0{}.for_keys()) == Approx(2.9e-5).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::q4_0{}.for_keys()) == Approx(.00739).epsilon(0.03));
  CHECK(laws::bits_per_number(kv::q8_0{}.for_keys(), 32, 128) == 8.5);
  CHECK(laws::bits_per_number(kv::q4_0{}.for_keys(), 32, 128) == 4.5);
}

TEST_CASE("the blocks say which head dimensions fit", "[codec]") {
  CHECK_THROWS_WITH(kv::q8_0{}.for_keys().check(40),
                    "tersekv::q8_0: the head dimension is 40, but must be a multiple of 32");
  CHECK_THROWS_WITH(kv::q4_0{}.for_values().check(80),
                    "tersekv::q4_0: the head dimension is 80, but must be a multiple of 32");
  CHECK_THROWS_AS(kv::q4_0{}.for_keys().check(8), kv::shape_error);
}
