// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <tersekv/number.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace number_test {
constexpr float infinity = std::numeric_limits<float>::infinity();

/// The value of a half from its three fields.
double reference(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}
std::uint16_t half_of(float x) { return kv::from_float<kv::half>(x).bits; }
std::uint16_t bfloat_of(float x) { return kv::from_float<kv::bfloat16>(x).bits; }
TEST_CASE("every half is read as its sign, exponent and fraction say, and written back", "[core]") {
  for (std::uint32_t u = 0; u < 65536; ++u) {
    const auto bits = static_cast<std::uint16_t>(u);
    const float x = kv::to_float(kv::half{bits});
    if ((bits & 0x7c00) == 0x7c00) {
      const bool infinite = (bits & 1023) == 0;
      REQUIRE(std::isinf(x) == infinite);
      REQUIRE(std::isnan(x) != infinite);
      REQUIRE(std::signbit(x) == ((bits & 0x8000) != 0));
      if (infinite)
        REQUIRE(half_of(x) == bits);
      else
        REQUIRE(std::isnan(kv::to_float(kv::from_float<kv::half>(x))));
      continue;
    }
    REQUIRE(static_cast<double>(x) == reference(bits));
    REQUIRE(half_of(x) == bits);  // -0 too
  }
}

TEST_CASE("floats round to the nearest half, ties to even", "[core]") {
  for (std::uint32_t u = 0; u < 0x7bff; ++u) {
    const auto low = static_cast<std::uint16_t>(u), high = static_cast<std::uint16_t>(u + 1);
    const auto middle = static_cast<float>((reference(low) + reference(high)) / 2);  // exact: 12 bits
    const std::uint16_t even = low % 2 == 0 ? low : high;
    REQUIRE(half_of(middle) == even);
    REQUIRE(half_of(-middle) == (even | 0x8000));
    REQUIRE(half_of(std::nextafter(middle, 0.0f)) == low);
    REQUIRE(half_of(std::nextafter(middle, infinity)) == high);
    REQUIRE(half_of(-std::nextafter(middle, 0.0f)) == (low | 0x8000));
    REQUIRE(half_of(-std::nextafter(middle, infinity)) == (high | 0x8000));
  }
  CHECK(half_of(1e-45f) == 0);
  CHECK(half_of(-1e-45f) == 0x8000);
}

TEST_CASE("finite floats never become infinite halves or bfloats", "[core]") {
  for (const float x : {65504.0f, 65519.9f, 65520.0f, 65536.0f, 1e6f, 3.4e38f}) {
    CHECK(half_of(x) == 0x7bff);
    CHECK(half_of(-x) == 0xfbff);
  }
  CHECK(half_of(infinity) == 0x7c00);
  CHECK(half_of(-infinity) == 0xfc00);
  CHECK(bfloat_of(std::numeric_limits<float>::max()) == 0x7f7f);
  CHECK(bfloat_of(-std::numeric_limits<float>::max()) == 0xff7f);
  CHECK(bfloat_of(infinity) == 0x7f80);
  CHECK(std::isnan(kv::to_float(kv::from_float<kv::bfloat16>(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isnan(kv::to_float(kv::from_float<kv::half>(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("every bfloat returns unchanged and floats round to the nearest, ties to even", "[core]") {
  for (std::uint32_t u = 0; u < 65536; ++u) {
    const auto bits = static_cast<std::uint16_t>(u);
    const float x = kv::to_float(kv::bfloat16{bits});
    REQUIRE(std::bit_cast<std::uint32_t>(x) == u << 16);
    if ((bits & 0x7f80) == 0x7f80 && (bits & 0x7f) != 0) continue;  // NaN
    REQUIRE(bfloat_of(x) == bits);
    if ((bits & 0x7fff) >= 0x7f7f) continue;
    const auto next = static_cast<std::uint16_t>(bits + 1);
    const float middle = std::bit_cast<float>((u << 16) + 0x8000u);
    REQUIRE(bfloat_of(middle) == (bits % 2 == 0 ? bits : next));
    REQUIRE(bfloat_of(std::bit_cast<float>((u << 16) + 0x7fffu)) == bits);
    REQUIRE(bfloat_of(std::bit_cast<float>((u << 16) + 0x8001u)) == next);
  }
}

TEST_CASE("rows convert like single numbers, whatever their length", "[core]") {
  for (const int n : {0, 1, 7, 8, 9, 31, 64}) {
    const auto size = static_cast<std::size_t>(n);
    std::vector<kv::half> halves(size + 1, kv::half{0x1234});
    std::vector<float> x(size), wide(size + 1, 9.0f);
    for (std::size_t i = 0; i < size; ++i)
      x[i] = std::ldexp(1.0f + 0.37f * static_cast<float>(i), static_cast<int>(i % 40) - 26);
    kv::narrow(x.data(), n, halves.data());
    kv::widen(halves.data(), n, wide.data());
    for (std::size_t i = 0; i < size; ++i) {
      REQUIRE(halves[i].bits == half_of(x[i]));
      REQUIRE(wide[i] == kv::to_float(halves[i]));
    }
    CHECK(halves[size].bits == 0x1234);
    CHECK(wide[size] == 9.0f);
  }
}

TEST_CASE("a number that is not finite is found wherever it stands", "[core]") {
  for (const int n : {0, 1, 15, 16, 17, 40}) {
    std::vector<float> x(static_cast<std::size_t>(n) + 1, -std::numeric_limits<float>::max());
    x.back() = std::numeric_limits<float>::infinity();  // no longer a part
    REQUIRE(kv::all_finite(x.data(), n));
    for (int i = 0; i < n; ++i)
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()}) {
        const float good = std::exchange(x[static_cast<std::size_t>(i)], bad);
        REQUIRE(!kv::all_finite(x.data(), n));
        x[static_cast<std::size_t>(i)] = good;
      }
  }
}

}  // namespace number_test
