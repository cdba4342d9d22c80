// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/number.hpp>
#include "simt/buffer.hpp"

using namespace tersekv::detail;

namespace numbers_test {

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

struct numbers_arguments {
  float* floats;                 // [n]; of halves and of bfloat16s when these are given
  std::uint16_t *half, *bfloat;  // [n]
  float4* pairs;                 // [n] second number of a pair and first, as half and as bfloat16
  int n;
};

__global__ void to_floats(numbers_arguments a) {
  for (int i = static_cast<int>(threadIdx.x); i < 65536; i += 256) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float h = half_to_float(bits), b = bfloat16_to_float(bits);
    const std::uint32_t high = static_cast<std::uint32_t>(i) << 16;
    const float2 half_pair = half2_unpack(high | 0x3c00), bfloat_pair = bfloat2_unpack(high | 0x3f80);
    a.floats[i] = h, a.floats[65536 + i] = b;
    a.half[i] = half_from_float(h), a.bfloat[i] = bfloat16_from_float(b);
    a.pairs[i] = make_float4(half_pair.y, half_pair.x, bfloat_pair.y, bfloat_pair.x);
  }
}
__global__ void from_floats(numbers_arguments a) {
  for (int i = static_cast<int>(threadIdx.x); i < a.n; i += 256)
    a.half[i] = half_from_float(a.floats[i]), a.bfloat[i] = bfloat16_from_float(a.floats[i]);
}

struct words_arguments {
  std::uint32_t* words;
};

__global__ void packed_arithmetic(words_arguments p) {
  std::uint32_t* w = p.words;
  const std::uint32_t a = half2_pack(1.5f, -2.0f), b = half2_pack(0.25f, 3.0f), c = half2_pack(1.0f, 0.5f);
  *w++ = half2_add(a, b), *w++ = half2_sub(a, b), *w++ = half2_mul(a, b);
  *w++ = half2_min(a, b), *w++ = half2_max(a, b), *w++ = half2_fma(a, b, c);
  const std::uint32_t x = bfloat2_pack(1.5f, -2.0f), y = bfloat2_pack(0.25f, 3.0f), z = bfloat2_pack(1.0f, 0.5f);
  *w++ = bfloat2_add(x, y), *w++ = bfloat2_sub(x, y), *w++ = bfloat2_mul(x, y);
  *w++ = bfloat2_min(x, y), *w++ = bfloat2_max(x, y), *w++ = bfloat2_fma(x, y, z);
}
__global__ void bits(words_arguments p) {
  std::uint32_t* w = p.words;
  *w++ = byte_perm<0x3210>(0x33221100u, 0x77665544u), *w++ = byte_perm<0x5410>(0x33221100u, 0x77665544u);
  *w++ = byte_perm<0x0007>(0x33221100u, 0x77665544u), *w++ = byte_select(0x33221100u, 0x77665544u, 0x1746u);
  *w++ = lop3<0xea>(0x0ff0u, 0x00ffu, 0xf000u), *w++ = lop3<0x96>(0x0ff0u, 0x00ffu, 0xf000u);
  *w++ = static_cast<std::uint32_t>(dp4a(0x01ff02fe, 0x03040506, 10));
  *w++ = static_cast<std::uint32_t>(4096 * exp2_fast(-3.0f));
}

/// Two numbers as bits of Number.
template <class Number>
std::uint32_t pair(float low, float high) {
  return tersekv::from_float<Number>(low).bits | std::uint32_t{tersekv::from_float<Number>(high).bits} << 16;
}

TEST_CASE("each of the 65536 halves and bfloat16s becomes its float and comes back", "[simt]") {
  const simt::buffer<float> floats(2 * 65536, 0.0f);
  const simt::buffer<std::uint16_t> half(65536, std::uint16_t{0}), bfloat(65536, std::uint16_t{0});
  const simt::buffer<float4> pairs(65536, float4{});
  launch(to_floats, 1, 256, 0, nullptr, {floats.data(), half.data(), bfloat.data(), pairs.data(), 0});
  const auto x = floats.host();
  const auto h = half.host(), b = bfloat.host();
  const auto p = pairs.host();
  int wrong = 0;
  for (unsigned i = 0; i < 65536; ++i) {
    const float as_half = by_definition(i, 10, 15), as_bfloat = by_definition(i, 7, 127);
    wrong += !same(x[i], as_half) || !same(x[65536 + i], as_bfloat);
    wrong += !std::isnan(as_half) && h[i] != i;
    wrong += !std::isnan(as_bfloat) && b[i] != i;
    wrong += !same(p[i].x, as_half) || p[i].y != 1.0f || !same(p[i].z, as_bfloat) || p[i].w != 1.0f;
  }
  CHECK(wrong == 0);
}

TEST_CASE("floats round to the nearest 16-bit number, ties to even, and overflow to infinity", "[simt]") {
  std::mt19937 engine(1);
  std::vector<float> x = {65519.0f, 65520.0f, -INFINITY, 3.4e38f};
  for (int i = 0; i < 300000; ++i) {
    const float any = tersekv::detail::bit_cast<float>(static_cast<std::uint32_t>(engine()));
    if (!(std::fabs(any) < 3e38f)) continue;
    x.push_back(any);
    x.push_back(std::ldexp(any, -std::ilogb(any) + i % 40 - 26));  // where halves are
  }
  const simt::buffer<float> floats(x);
  const simt::buffer<std::uint16_t> half(x.size(), std::uint16_t{0}), bfloat(x.size(), std::uint16_t{0});
  launch(from_floats, 1, 256, 0, nullptr,
         {floats.data(), half.data(), bfloat.data(), nullptr, static_cast<int>(x.size())});
  const auto h = half.host(), b = bfloat.host();
  int wrong = 0;
  for (std::size_t i = 4; i < x.size(); ++i) {
    wrong += b[i] != tersekv::from_float<tersekv::bfloat16>(x[i]).bits;
    wrong += std::fabs(x[i]) < 65504 && h[i] != tersekv::from_float<tersekv::half>(x[i]).bits;
  }
  CHECK(wrong == 0);
  CHECK(h[0] == 0x7bff);
  CHECK(h[1] == 0x7c00);
  CHECK(h[2] == 0xfc00);
  CHECK(b[3] == 0x7f80);
}

TEST_CASE("packed arithmetic acts on both numbers of a word", "[simt]") {
  const simt::buffer<std::uint32_t> words(12, 0u);
  launch(packed_arithmetic, 1, 1, 0, nullptr, {words.data()});
  std::vector<std::uint32_t> expected;
  const float results[][2] = {{1.75f, 1.0f},  {1.25f, -5.0f}, {0.375f, -6.0f},
                              {0.25f, -2.0f}, {1.5f, 3.0f},   {1.375f, -5.5f}};
  for (const auto& r : results) expected.push_back(pair<tersekv::half>(r[0], r[1]));
  for (const auto& r : results) expected.push_back(pair<tersekv::bfloat16>(r[0], r[1]));
  CHECK(words.host() == expected);
}

TEST_CASE("operations on bits", "[simt]") {
  const simt::buffer<std::uint32_t> words(8, 0u);
  launch(bits, 1, 1, 0, nullptr, {words.data()});
  // lop3: (a & b) | c and a ^ b ^ c
  CHECK(words.host() == std::vector<std::uint32_t>{0x33221100, 0x55441100, 0x00000077, 0x11774466, 0xf0f0, 0xff0f,
                                                   10 + 3 - 4 + 10 - 12, 512});
}

}  // namespace numbers_test
