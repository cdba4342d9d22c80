// SPDX-License-Identifier: Apache-2.0
// Where codes and scales lie, and that no layout changes a number.
#include <cstring>

#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/ggml_iq4_nl.hpp>
#include <tersekv/codec/ggml_q4_0.hpp>
#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/codec/symmetric.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;
namespace layout = tersekv::layout;

namespace layout_test {

using row_codes = std::vector<std::uint8_t>;

row_codes random_codes(std::mt19937& engine, int dim, int bits) {
  row_codes codes(static_cast<std::size_t>(dim));
  for (auto& u : codes) u = static_cast<std::uint8_t>(engine() & ((1u << bits) - 1));
  return codes;
}

/// Rows come in any order, over other codes, into memory that holds anything; the rest stays.
template <class Plane>
void gives_codes_back(int bits, int rows, int dim) {
  CAPTURE(bits, rows, dim);
  std::mt19937 engine(static_cast<unsigned>(rows * 1000 + dim));
  std::vector<std::byte> plane(Plane::bytes(rows, dim) + 8);
  for (auto& b : plane) b = static_cast<std::byte>(engine());
  const std::vector<std::byte> behind(plane.end() - 8, plane.end());
  std::vector<int> order(static_cast<std::size_t>(2 * rows));
  for (int i = 0; i < 2 * rows; ++i) order[static_cast<std::size_t>(i)] = i % rows;
  std::shuffle(order.begin(), order.end(), engine);
  std::vector<row_codes> written(static_cast<std::size_t>(rows));
  for (const int row : order) {
    auto& mine = written[static_cast<std::size_t>(row)];
    mine = random_codes(engine, dim, bits);
    Plane::store(plane.data(), dim, row, mine.data());
    for (int r = 0; r < rows; ++r) {
      const auto& want = written[static_cast<std::size_t>(r)];
      if (want.empty()) continue;
      row_codes got(want.size() + 1, 0xab);
      Plane::load(plane.data(), dim, r, got.data());
      REQUIRE(got.back() == 0xab);
      got.pop_back();
      REQUIRE(got == want);
      for (int c = 0; c < dim; ++c) REQUIRE(Plane::code(plane.data(), dim, r, c) == want[static_cast<std::size_t>(c)]);
    }
  }
  CHECK(std::equal(behind.begin(), behind.end(), plane.end() - 8));
}

template <class A, class B>
void decode_alike(const A& a, const B& b, int dim) {
  const int rows = std::max(40, 2 * A::span);
  for (const laws::sample& s : laws::samples(rows, dim)) {
    const auto x = laws::round_trip(a, s.x, dim), y = laws::round_trip(b, s.x, dim);
    CAPTURE(s.name, dim);
    REQUIRE(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
  }
}
/// One codec in both layouts.
template <class Rows, class Quads>
void decodes_alike(const Rows& rows, const Quads& quads, int dim) {
  decode_alike(rows.for_keys(), quads.for_keys(), dim);
  decode_alike(rows.for_values(), quads.for_values(), dim);
}

TEMPLATE_TEST_CASE_SIG("codes come back from every layout, and no other row moves", "[codec]", ((int Bits), Bits), 2, 3,
                       4, 5, 6, 7, 8) {
  for (const int dim : {1, 3, 8, 16, 20, 33, 64, 72, 80})
    for (const int rows : {1, 16, 32, 37}) {
      gives_codes_back<kv::code_plane<layout::rows, Bits>>(Bits, rows, dim);
      gives_codes_back<kv::code_plane<layout::token_quads, Bits>>(Bits, rows, dim);
      gives_codes_back<kv::code_plane<layout::channel_quads, Bits>>(Bits, rows, dim);
    }
}

TEMPLATE_TEST_CASE_SIG("the layouts decode to the same numbers, bit for bit", "[codec]", ((int Bits), Bits), 2, 3, 4, 5,
                       6, 7, 8) {
  for (const int dim : {8, 20, 40, 64, 72, 80, 128}) {
    decodes_alike(kv::affine<Bits, 0, layout::rows>{}, kv::affine<Bits, 0>{}, dim);
    decodes_alike(kv::symmetric<Bits, 0, layout::rows>{}, kv::symmetric<Bits, 0>{}, dim);
    if (dim % 8 == 0) {
      decodes_alike(kv::affine<Bits, 8, layout::rows>{}, kv::affine<Bits, 8>{}, dim);
      decodes_alike(kv::symmetric<Bits, 8, layout::rows>{}, kv::symmetric<Bits, 8>{}, dim);
    }
    if constexpr (Bits <= 4 || Bits == 8)
      decode_alike(kv::kivi<Bits, 32, 128, kv::reopened, layout::rows>{}.for_keys(), kv::kivi<Bits>{}.for_keys(), dim);
  }
}

TEST_CASE("the blocks of ggml decode to the same numbers in every layout, bit for bit", "[codec]") {
  for (const int dim : {32, 64, 128}) {
    decodes_alike(kv::basic_q8_0<layout::rows>{}, kv::q8_0{}, dim);
    decodes_alike(kv::basic_q4_0<layout::rows>{}, kv::q4_0{}, dim);
    decodes_alike(kv::basic_iq4_nl<layout::rows>{}, kv::iq4_nl{}, dim);
  }
}

TEST_CASE("quads stand where the kernels look for them", "[codec]") {
  std::mt19937 engine(3);
  // Keys of 4 bits: a block of 16 rows, the word of row r and channels 8 u .. 8 u + 7 is number 16 u + r; the first
  // four channels are the low halves of its bytes.
  constexpr int dim = 16;
  std::vector<std::byte> keys(kv::code_plane<layout::token_quads, 4>::bytes(32, dim));
  std::vector<row_codes> rows;
  for (int r = 0; r < 32; ++r) {
    rows.push_back(random_codes(engine, dim, 4));
    kv::code_plane<layout::token_quads, 4>::store(keys.data(), dim, r, rows.back().data());
  }
  for (std::size_t r = 0; r < 32; ++r)
    for (std::size_t c = 0; c < dim; ++c) {
      const std::size_t word = r / 16 * 32 + c / 8 * 16 + r % 16;
      REQUIRE((static_cast<int>(keys[4 * word + c % 4]) >> (c % 8 / 4 * 4) & 15) == rows[r][c]);
    }
  // Values of 3 bits: a plane of the low two bits and a plane of the high one; the word of channel c is number c of its
  // unit, which holds 16 rows of two bits and 32 rows of one.
  std::vector<std::byte> values(kv::code_plane<layout::channel_quads, 3>::bytes(32, dim));
  for (int r = 0; r < 32; ++r) {
    rows[static_cast<std::size_t>(r)] = random_codes(engine, dim, 3);
    kv::code_plane<layout::channel_quads, 3>::store(values.data(), dim, r, rows[static_cast<std::size_t>(r)].data());
  }
  for (std::size_t r = 0; r < 32; ++r)
    for (std::size_t c = 0; c < dim; ++c) {
      const int low = static_cast<int>(values[64 * (r / 16) + 4 * c + r % 4]) >> (r % 16 / 4 * 2) & 3;
      const int high = static_cast<int>(values[128 + 4 * c + r % 4]) >> (r / 4) & 1;
      REQUIRE((low | high << 2) == rows[r][c]);
    }
}

TEST_CASE("quads write codes that count from zero, and scales group by group", "[codec]") {
  std::vector<float> x(32 * 16, 0.0f);
  for (std::size_t r = 0; r < 32; ++r) x[16 * r] = static_cast<float>(r) * 127, x[16 * r + 8] = -127;
  const auto f = kv::int8<8>{}.for_keys();
  const auto tile = laws::encoded(f, x, 16, 32);
  REQUIRE(f.steps_at(32, 16) == 32 * 16);
  REQUIRE(f.lows_at(32, 16) == f.steps_at(32, 16) + 2 * 32 * 2);
  REQUIRE(tile.size() == f.lows_at(32, 16));  // one number for a group: there are no minima
  for (int r = 0; r < 32; ++r) {
    CHECK(kv::detail::load_half(tile.data() + f.steps_at(32, 16) + 2 * r) == static_cast<float>(r));
    CHECK(kv::detail::load_half(tile.data() + f.steps_at(32, 16) + 2 * (32 + r)) == 1.0f);
  }
  CHECK(tile[4] == std::byte{255});  // row 1, channel 0: 127 + 128
  CHECK(tile[5] == std::byte{128});
  CHECK(tile[2 * 64 + 4] == std::byte{1});  // row 1, channel 8: -127 + 128
}

}  // namespace layout_test
