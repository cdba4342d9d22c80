// SPDX-License-Identifier: Apache-2.0
// Numbers, and formats without a kernel of their own: they are decoded, and exact up to float rounding.
#include "promises.hpp"

#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/int4.hpp>

namespace kv = tersekv;

namespace kernel_numbers_test {

/// A codec as a user writes it, which no kernel knows: the upper half of every float, channel by channel.
struct upper_halves_format {
  static constexpr int span = 1;
  void check(int) const {}
  std::size_t bytes(int rows, int dim) const { return 2 * test::cells(rows, dim); }
  void encode(const float* x, int dim, std::byte* tile, int rows, int first, int count) const {
    for (int r = 0; r < count; ++r)
      for (int c = 0; c < dim; ++c)
        std::memcpy(tile + 2 * (c * rows + first + r), reinterpret_cast<const char*>(x + r * dim + c) + 2, 2);
  }
  void decode(const std::byte* tile, int rows, int first, int count, int dim, float* x) const {
    std::fill_n(x, count * dim, 0.0f);
    for (int r = 0; r < count; ++r)
      for (int c = 0; c < dim; ++c)
        std::memcpy(reinterpret_cast<char*>(x + r * dim + c) + 2, tile + 2 * (c * rows + first + r), 2);
  }
  void move(std::byte* to, int to_row, const std::byte* from, int from_row, int rows, int dim) const {
    for (int c = 0; c < dim; ++c) std::memcpy(to + 2 * (c * rows + to_row), from + 2 * (c * rows + from_row), 2);
  }
};
struct upper_halves {
  using key_format = upper_halves_format;
  using value_format = upper_halves_format;
  key_format for_keys() const { return {}; }
  value_format for_values() const { return {}; }
};

TEST_CASE("kernels over numbers of 16 and 32 bits are exact up to float rounding", "[backend]") {
  promises::keeps_all(test::named<kv::dense<float>>("f32"));
  promises::keeps_all(test::briefly<kv::dense<kv::bfloat16>>("bf16"));
}
TEST_CASE("a format without a kernel is decoded, with the same result", "[backend]") {
  promises::keeps_all(test::named<upper_halves>("of a user"));
  promises::keeps_all(test::briefly<kv::int4<32, kv::layout::rows>>("int4<32> in rows"));
  promises::keeps_all(test::briefly<kv::affine<4, 16>>("affine<4, 16>"));  // groups that no step of quads fills
}

}  // namespace kernel_numbers_test
