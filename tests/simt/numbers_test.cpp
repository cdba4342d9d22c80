// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <cmath>
#include <cstdint>
#include <random>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/number.hpp>

using namespace tersekv::detail;

namespace {

bool same(float x, float y) { return x == y ? std::signbit(x) == std::signbit(y) : std::isnan(x) && std::isnan(y); }

// What a number is by its definition, without a shortcut.
float by_definition(unsigned bits, int digits, int bias) {
  const unsigned exponent = (bits & 0x7fff) >> digits, mantissa = bits & ((1u << digits) - 1);
  const unsigned top = 0x7fffu >> digits;
  float x = std::ldexp(static_cast<float>(mantissa + (exponent ? 1u << digits : 0u)),
                       static_cast<int>(exponent ? exponent : 1) - bias - digits);
  if (exponent == top) x = mantissa ? NAN : INFINITY;
  return bits & 0x8000 ? -x : x;
}

}  // namespace

TEST_CASE("each of the 65536 halves and bfloat16s becomes its float and comes back", "[simt]") {
  int wrong = 0;
  for (unsigned i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float h = half_to_float(bits), b = bfloat16_to_float(bits);
    wrong += !same(h, by_definition(i, 10, 15)) || !same(b, by_definition(i, 7, 127));
    wrong += !std::isnan(h) && half_from_float(h) != bits;
    wrong += !std::isnan(b) && bfloat16_from_float(b) != bits;
    wrong += !same(half2_unpack(i << 16 | 0x3c00).y, h) || half2_unpack(i << 16 | 0x3c00).x != 1.0f;
    wrong += !same(bfloat2_unpack(i << 16 | 0x3f80).y, b) || bfloat2_unpack(i << 16 | 0x3f80).x != 1.0f;
  }
  CHECK(wrong == 0);
}

TEST_CASE("floats round to the nearest 16-bit number, ties to even, and overflow to infinity", "[simt]") {
  std::mt19937 engine(1);
  int wrong = 0;
  for (int i = 0; i < 300000; ++i) {
    const float any = bit_cast<float>(static_cast<std::uint32_t>(engine()));
    if (!(std::fabs(any) < 3e38f)) continue;
    wrong += bfloat16_from_float(any) != tersekv::from_float<tersekv::bfloat16>(any).bits;
    const float small = std::ldexp(any, -std::ilogb(any) + i % 40 - 26);  // where halves are
    wrong += half_from_float(small) != tersekv::from_float<tersekv::half>(small).bits;
  }
  CHECK(wrong == 0);
  CHECK(half_from_float(65519.0f) == 0x7bff);
  CHECK(half_from_float(65520.0f) == 0x7c00);
  CHECK(half_from_float(-INFINITY) == 0xfc00);
  CHECK(bfloat16_from_float(3.4e38f) == 0x7f80);
}

TEST_CASE("packed arithmetic acts on both numbers of a word", "[simt]") {
  const std::uint32_t a = half2_pack(1.5f, -2.0f), b = half2_pack(0.25f, 3.0f), c = half2_pack(1.0f, 0.5f);
  CHECK(half2_add(a, b) == half2_pack(1.75f, 1.0f));
  CHECK(half2_sub(a, b) == half2_pack(1.25f, -5.0f));
  CHECK(half2_mul(a, b) == half2_pack(0.375f, -6.0f));
  CHECK(half2_min(a, b) == half2_pack(0.25f, -2.0f));
  CHECK(half2_max(a, b) == half2_pack(1.5f, 3.0f));
  CHECK(half2_fma(a, b, c) == half2_pack(1.375f, -5.5f));
  const std::uint32_t x = bfloat2_pack(1.5f, -2.0f), y = bfloat2_pack(0.25f, 3.0f), z = bfloat2_pack(1.0f, 0.5f);
  CHECK(bfloat2_add(x, y) == bfloat2_pack(1.75f, 1.0f));
  CHECK(bfloat2_sub(x, y) == bfloat2_pack(1.25f, -5.0f));
  CHECK(bfloat2_mul(x, y) == bfloat2_pack(0.375f, -6.0f));
  CHECK(bfloat2_min(x, y) == bfloat2_pack(0.25f, -2.0f));
  CHECK(bfloat2_max(x, y) == bfloat2_pack(1.5f, 3.0f));
  CHECK(bfloat2_fma(x, y, z) == bfloat2_pack(1.375f, -5.5f));
}

TEST_CASE("operations on bits", "[simt]") {
  CHECK(byte_perm<0x3210>(0x33221100u, 0x77665544u) == 0x33221100u);
  CHECK(byte_perm<0x5410>(0x33221100u, 0x77665544u) == 0x55441100u);
  CHECK(byte_perm<0x0007>(0x33221100u, 0x77665544u) == 0x00000077u);
  CHECK(lop3<0xea>(0x0ff0u, 0x00ffu, 0xf000u) == 0xf0f0u);  // (a & b) | c
  CHECK(lop3<0x96>(0x0ff0u, 0x00ffu, 0xf000u) == 0xff0fu);  // a ^ b ^ c
  CHECK(dp4a(0x01ff02fe, 0x03040506, 10) == 10 + 3 - 4 + 10 - 12);
  CHECK(exp2_fast(-3.0f) == Approx(0.125f));
}
