// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>

#include <tersekv/codec/grid.hpp>
#include <tersekv/detail/pack.hpp>

#include "catch.hpp"

namespace kv = tersekv;
namespace grid = tersekv::grid;

namespace grid_test {
template <class Grid>
float through(float x, float smallest, float largest) {
  const grid::scale s = Grid::fit(smallest, largest);
  const float step = kv::to_float(s.step), low = kv::to_float(s.low);
  return Grid::value(Grid::code(x, low, grid::inverse(step)), step, low);
}
TEST_CASE("numbers that lie on the grid return unchanged", "[codec]") {
  for (int u = 0; u < 4; ++u)
    CHECK(through<grid::affine<2>>(static_cast<float>(u) * 0.5f - 1, -1.0f, 0.5f) == static_cast<float>(u) * 0.5f - 1);
  for (int u = 0; u < 8; ++u)
    CHECK(through<grid::affine<3>>(static_cast<float>(u), 0.0f, 7.0f) == static_cast<float>(u));
  for (int u = 0; u < 16; ++u)
    CHECK(through<grid::affine<4>>(static_cast<float>(10 + u), 10.0f, 25.0f) == static_cast<float>(10 + u));
  for (int u = 0; u < 256; ++u)
    CHECK(through<grid::affine<8>>(static_cast<float>(-u), -255.0f, 0.0f) == static_cast<float>(-u));
  for (int n = -127; n < 128; ++n)
    CHECK(through<grid::symmetric<8>>(static_cast<float>(n), -127.0f, 100.0f) == static_cast<float>(n));
  for (int n = -7; n < 8; ++n)
    CHECK(through<grid::symmetric<4>>(static_cast<float>(n), -3.0f, 7.0f) == static_cast<float>(n));
}

TEST_CASE("codes round to nearest, ties to even", "[codec]") {
  const auto code = [](float x) { return grid::affine<4>::code(x, 0.0f, 1.0f); };
  CHECK(code(0.5f) == 0);
  CHECK(code(1.5f) == 2);
  CHECK(code(2.5f) == 2);
  CHECK(code(2.49f) == 2);
  CHECK(code(2.51f) == 3);
}

TEST_CASE("numbers beyond the ends of a grid take its last code and do not wrap", "[codec]") {
  for (const float far : {15.4f, 15.6f, 16.0f, 300.0f, 3e9f, 3e38f}) {
    CHECK(grid::affine<4>::code(far, 0.0f, 1.0f) == 15);
    CHECK(grid::affine<4>::code(-far, 0.0f, 1.0f) == 0);
    CHECK(grid::symmetric<4>::code(far, 0.0f, 1.0f) == 7);
    CHECK(grid::symmetric<4>::code(-far, 0.0f, 1.0f) == 9);  // -7 in two's complement
  }
}

TEST_CASE("a group without range has step zero and decodes exactly", "[codec]") {
  for (const float x : {0.0f, 1.0f, -3.25f, 65504.0f, -65504.0f}) {
    CHECK(grid::affine<2>::fit(x, x).step.bits == 0);
    CHECK(through<grid::affine<2>>(x, x, x) == x);
  }
  CHECK(through<grid::symmetric<8>>(0.0f, 0.0f, 0.0f) == 0.0f);
  // Its codes are zero, also where the minimum is no half.
  const float low = kv::to_float(grid::affine<4>::fit(0.1f, 0.1f).low);
  for (const float x : {0.1f, 0.0999f}) CHECK(grid::affine<4>::code(x, low, grid::inverse(0.0f)) == 0);
}

TEST_CASE("a step is never rounded down and a minimum never up", "[codec]") {
  for (float x = 1e-9f; x < 1e5f; x *= 1.0037f) {
    const float up = kv::to_float(grid::round_up(x)), down = kv::to_float(grid::round_down(x));
    const float below = kv::to_float(grid::round_down(-x));
    if (x <= kv::largest_half) {
      REQUIRE(up >= x);
      REQUIRE(below <= -x);
    }
    REQUIRE(down <= x);
    REQUIRE(std::abs(up - down) <= std::ldexp(down, -10) + std::ldexp(1.0f, -24));
    REQUIRE(below == -up);
  }
  CHECK(grid::round_up(1.0f).bits == 0x3c00);
  CHECK(grid::round_down(-1.0f).bits == 0xbc00);
  CHECK(grid::round_up(1e9f).bits == 0x7bff);
  CHECK(grid::round_down(-1e9f).bits == 0xfbff);
}

TEST_CASE("metadata saturates", "[codec]") {
  const auto wide = grid::affine<2>::fit(-3e38f, 3e38f);
  CHECK(wide.step.bits == 0x7bff);
  CHECK(wide.low.bits == 0xfbff);
  CHECK(grid::symmetric<8>::fit(-3e38f, 1.0f).step.bits == 0x7bff);
  CHECK(grid::affine<4>::fit(1e30f, 1e30f).low.bits == 0x7bff);
}

TEMPLATE_TEST_CASE_SIG("codes pack into a little-endian bit stream and come back", "[codec]", ((int Bits), Bits), 2, 3,
                       4, 5, 6, 7, 8) {
  for (const int n : {1, 7, 8, 9, 32, 61}) {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(n)), back(codes.size());
    for (int i = 0; i < n; ++i)
      codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>((i * 37 + i / 3) & ((1 << Bits) - 1));
    const std::size_t size = kv::detail::packed_bytes(n, Bits);
    std::vector<std::byte> packed(size + 1, std::byte{0xab});
    kv::detail::pack_codes<Bits>(codes.data(), n, packed.data());
    CHECK(packed[size] == std::byte{0xab});
    for (int bit = 0; bit < n * Bits; ++bit) {
      const int want = codes[static_cast<std::size_t>(bit / Bits)] >> (bit % Bits) & 1;
      REQUIRE((static_cast<int>(packed[static_cast<std::size_t>(bit / 8)]) >> (bit % 8) & 1) == want);
    }
    kv::detail::unpack_codes<Bits>(packed.data(), n, back.data());
    CHECK(back == codes);
  }
}

TEST_CASE("packed words are those of the published kernels", "[codec]") {
  std::uint8_t codes[16];
  std::uint32_t word = 0;
  for (int i = 0; i < 16; ++i) codes[i] = static_cast<std::uint8_t>(i % 4);
  kv::detail::pack_codes<2>(codes, 16, reinterpret_cast<std::byte*>(&word));
  CHECK(word == 0xE4E4E4E4u);
  for (int i = 0; i < 8; ++i) codes[i] = static_cast<std::uint8_t>(i);
  kv::detail::pack_codes<4>(codes, 8, reinterpret_cast<std::byte*>(&word));
  CHECK(word == 0x76543210u);
}

}  // namespace grid_test
