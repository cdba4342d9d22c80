// SPDX-License-Identifier: Apache-2.0
// How the blocks of ggml are stored: byte for byte as ggml does in layout::rows, as planes in layout::quads.
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <tersekv/codec/grouped.hpp>
#include <tersekv/codec/layout.hpp>
#include <tersekv/detail/pack.hpp>
#include <tersekv/detail/planes.hpp>

namespace tersekv {

/// Tile [rows, dim / block] of { step f16, codes [block] }: a row is a ggml row. Codes of 8 bits are in order; of 4
/// bits, channel j is the low half of byte j and channel j + 16 the high one.
template <class Grid>
struct ggml_rows : detail::row_planes<ggml_rows<Grid>> {
  static_assert(Grid::numbers == 1 && (Grid::bits == 4 || Grid::bits == 8));
  using grid = Grid;
  using layout = tersekv::layout::rows;
  static constexpr int span = 1, block = Grid::block;
  static constexpr bool opens = true;
  static constexpr std::size_t block_bytes = 2 + static_cast<std::size_t>(block * Grid::bits / 8);

  void check(int dim) const {
    detail::require_multiple(Grid::name, dim, block);
    detail::require_few(Grid::name, dim);
  }
  TERSEKV_HD static constexpr std::size_t row_bytes(int dim) {
    return static_cast<std::size_t>(dim / block) * block_bytes;
  }
  std::array<std::size_t, 1> planes(int dim) const { return {row_bytes(dim)}; }

  void encode(const float* x, int dim, std::byte* tile, int, int first, int count) const {
    std::byte* to = tile + planes(dim)[0] * static_cast<std::size_t>(first);
    for (const float* end = x + count * dim; x != end; x += block, to += block_bytes) {
      block_codes u;
      detail::store_half(to, detail::encode_group<Grid>(x, block, u.data()).step);
      if constexpr (Grid::bits == 4)
        for (std::size_t j = 0; j < half_block; ++j) u[j] = static_cast<std::uint8_t>(u[j] | u[j + half_block] << 4);
      std::memcpy(to + 2, u.data(), block_bytes - 2);
    }
  }
  void decode(const std::byte* tile, int, int first, int count, int dim, float* x) const {
    const std::byte* from = tile + planes(dim)[0] * static_cast<std::size_t>(first);
    for (const float* end = x + count * dim; x != end; x += block, from += block_bytes) {
      const float step = detail::load_half(from);
      block_codes u;
      std::memcpy(u.data(), from + 2, block_bytes - 2);
      if constexpr (Grid::bits == 4) {
        for (int j = 0; j < block / 2; ++j) {
          const std::uint32_t both = u[static_cast<std::size_t>(j)];
          x[j] = Grid::value(both & 15u, step, 0.0f);
          x[j + block / 2] = Grid::value(both >> 4, step, 0.0f);
        }
      } else {
        for (int i = 0; i < block; ++i) x[i] = Grid::value(u[static_cast<std::size_t>(i)], step, 0.0f);
      }
    }
  }
  /// One number, as decode gives it.
  TERSEKV_HD float value(const std::byte* tile, int, int dim, int row, int channel) const {
    const int i = channel % block, at = Grid::bits == 4 ? i % (block / 2) : i;
    const std::byte* from = tile + static_cast<std::size_t>(row * (dim / block) + channel / block) * block_bytes;
    const auto u = static_cast<std::uint32_t>(from[2 + at]);
    return Grid::value(Grid::bits == 8 ? u : i < block / 2 ? u & 15u : u >> 4, detail::load_half(from), 0.0f);
  }

 private:
  static constexpr std::size_t half_block = block / 2;
  using block_codes = std::array<std::uint8_t, static_cast<std::size_t>(block)>;
};

template <class Grid, class Layout>
using ggml_format = std::conditional_t<std::same_as<Layout, layout::rows>, ggml_rows<Grid>,
                                       grouped_format<Grid, Grid::block, reopened, Layout>>;

}  // namespace tersekv
