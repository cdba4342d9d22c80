// SPDX-License-Identifier: Apache-2.0
// grouped_format: each row alone, in groups of channels with one grid each. int8, int4, affine, symmetric and values of
// kivi are written so.
//
// Read before: codec/grid.hpp, codec/layout.hpp, `format` in policy.hpp.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <tersekv/codec/grid.hpp>
#include <tersekv/codec/layout.hpp>
#include <tersekv/detail/pack.hpp>
#include <tersekv/detail/planes.hpp>

namespace tersekv {

/// Group [channels]; 0, or more than a head has: the whole head is one group.
template <class Grid, int Group, class Reopen, class Layout>
struct grouped_format;

/// Tile: planes codes [rows, dim * bits / 8], step [rows, groups] f16, and, where the grid has one, low [rows, groups].
template <class Grid, int Group, class Reopen>
struct grouped_format<Grid, Group, Reopen, layout::rows>
    : detail::row_planes<grouped_format<Grid, Group, Reopen, layout::rows>> {
  static_assert(Group >= 0, "tersekv: a group has a positive number of channels, or 0 for the whole head");
  static constexpr int span = 1;
  static constexpr bool opens = Reopen::opens;

  constexpr explicit grouped_format(const char* codec = Grid::name) : codec_(codec) {}

  static constexpr int group(int dim) { return Group == 0 || Group > dim ? dim : Group; }
  void check(int dim) const { detail::require_multiple(codec_, dim, group(dim)); }
  std::array<std::size_t, 1 + Grid::numbers> planes(int dim) const {
    std::array<std::size_t, 1 + Grid::numbers> out;
    out.fill(2 * static_cast<std::size_t>(dim / group(dim)));
    out[0] = detail::packed_bytes(dim, Grid::bits);
    return out;
  }

  void encode(const float* x, int dim, std::byte* tile, int rows, int first, int count) const {
    const int size = group(dim);
    std::array<std::uint8_t, piece> codes;
    for (int r = first; r < first + count; ++r, x += dim) {
      std::byte* packed = tile + this->at(0, r, rows, dim);
      std::byte* steps = tile + this->at(1, r, rows, dim);
      std::byte* lows = Grid::numbers > 1 ? tile + this->at(Grid::numbers, r, rows, dim) : nullptr;
      grid::scale scale{};
      for (int c = 0; c < dim; c += piece) {
        const int end = std::min(dim, c + piece);
        for (int from = c, to = 0; from < end; from = to) {
          const int g = from / size;
          to = std::min(end, (g + 1) * size);
          if (from == g * size) {
            const auto [smallest, largest] = detail::range_of(x + from, size);
            scale = Grid::fit(smallest, largest);
            detail::store_half(steps + 2 * g, scale.step);
            if (Grid::numbers > 1) detail::store_half(lows + 2 * g, scale.low);
          }
          const float low = to_float(scale.low), inverse = grid::inverse(to_float(scale.step));
          for (int i = from; i < to; ++i)
            codes[static_cast<std::size_t>(i - c)] = static_cast<std::uint8_t>(Grid::code(x[i], low, inverse));
        }
        detail::pack_codes<Grid::bits>(codes.data(), end - c, packed + c / 8 * Grid::bits);
      }
    }
  }

  void decode(const std::byte* tile, int rows, int first, int count, int dim, float* x) const {
    const int size = group(dim);
    std::array<std::uint8_t, piece> codes;
    for (int r = first; r < first + count; ++r, x += dim) {
      const std::byte* packed = tile + this->at(0, r, rows, dim);
      const std::byte* steps = tile + this->at(1, r, rows, dim);
      const std::byte* lows = Grid::numbers > 1 ? tile + this->at(Grid::numbers, r, rows, dim) : nullptr;
      for (int c = 0; c < dim; c += piece) {
        const int end = std::min(dim, c + piece);
        const bool aligned = Grid::bits <= 4 && size % 8 == 0;
        if (!aligned) detail::unpack_codes<Grid::bits>(packed + c / 8 * Grid::bits, end - c, codes.data());
        for (int from = c, to = 0; from < end; from = to) {
          const int g = from / size;
          to = std::min(end, (g + 1) * size);
          const float step = detail::load_half(steps + 2 * g);
          const float low = Grid::numbers > 1 ? detail::load_half(lows + 2 * g) : 0.0f;
          if (aligned) {
            for (int i = from; i < to; i += 8) decode_eight(packed + i / 8 * Grid::bits, step, low, x + i);
          } else {
            for (int i = from; i < to; ++i) x[i] = Grid::value(codes[static_cast<std::size_t>(i - c)], step, low);
          }
        }
      }
    }
  }

 private:
  /// Eight codes out of one word: shifts of one broadcast word are fast where a buffer of codes is not.
  static void decode_eight(const std::byte* packed, float step, float low, float* x) {
    std::uint32_t word = 0;
    for (int b = 0; b < std::min(Grid::bits, 4); ++b) word |= static_cast<std::uint32_t>(packed[b]) << (8 * b);
    for (int j = 0; j < 8; ++j) x[j] = Grid::value(word >> (j * Grid::bits % 32) & ((1u << Grid::bits) - 1), step, low);
  }

  static constexpr int piece = 256;  // channels whose codes are unpacked at a time; a multiple of 8
  const char* codec_;                // for messages
};

}  // namespace tersekv
