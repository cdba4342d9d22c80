// SPDX-License-Identifier: Apache-2.0
// grouped_format: each row alone, in groups of channels with one grid each. int8, int4, affine, symmetric, the blocks
// of ggml and values of kivi are written so.
//
// Read before: codec/grid.hpp, codec/layout.hpp, `format` in policy.hpp.
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <tersekv/codec/grid.hpp>
#include <tersekv/codec/layout.hpp>
#include <tersekv/detail/pack.hpp>
#include <tersekv/detail/planes.hpp>

namespace tersekv {

namespace detail {

/// codes[n] of one group x[n], and what is stored of it.
template <class Grid>
grid::scale encode_group(const float* x, int n, std::uint8_t* codes) {
  if constexpr (requires { Grid::block; }) {
    const float step = Grid::step(largest_magnitude(x, n)), inverse = Grid::inverse(step);
    for (int i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(Grid::code(x[i], 0.0f, inverse));
    if constexpr (requires { typename Grid::refined_step; }) {
      typename Grid::refined_step refined;
      for (int i = 0; i < n; ++i) refined.add(x[i], codes[i]);
      return {from_float<half>(refined.step(step)), half{}};
    } else {
      return {from_float<half>(step), half{}};
    }
  } else {
    const auto [smallest, largest] = range_of(x, n);
    const grid::scale scale = Grid::fit(smallest, largest);
    const float low = to_float(scale.low), inverse = grid::inverse(to_float(scale.step));
    for (int i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(Grid::code(x[i], low, inverse));
    return scale;
  }
}

}  // namespace detail

/// Group [channels]; 0, or more than a head has: the whole head is one group.
/// Tile: codes as code_plane<Layout> writes them; from steps_at on step f16, and, where the grid has one, from lows_at
/// on low f16; rows * groups numbers each, in the order of number_at<Layout>.
template <class Grid, int Group, class Reopen, class Layout>
struct grouped_format {
  static_assert(Group >= 0, "tersekv: a group has a positive number of channels, or 0 for the whole head");
  using grid = Grid;
  using layout = Layout;
  using codes = code_plane<Layout, Grid::bits>;
  static constexpr int span = 1, group_size = Group;
  static constexpr bool opens = Reopen::opens;
  /// Of every code, as it is stored.
  static constexpr std::uint8_t flip =
      std::same_as<Layout, tersekv::layout::rows> ? 0 : static_cast<std::uint8_t>(Grid::bias_flip);

  constexpr explicit grouped_format(const char* codec = Grid::name) : codec_(codec) {}

  TERSEKV_HD static constexpr int group(int dim) { return Group == 0 || Group > dim ? dim : Group; }
  TERSEKV_HD static constexpr std::size_t steps_at(int rows, int dim) { return codes::bytes(rows, dim); }
  TERSEKV_HD static constexpr std::size_t lows_at(int rows, int dim) {
    return steps_at(rows, dim) + 2 * static_cast<std::size_t>(rows) * static_cast<std::size_t>(dim / group(dim));
  }

  void check(int dim) const {
    if constexpr (requires { Grid::block; })
      detail::require_multiple(codec_, dim, Grid::block);
    else
      detail::require_multiple(codec_, dim, group(dim));
    detail::require_few(codec_, dim);
  }
  std::size_t bytes(int rows, int dim) const {
    const std::size_t plane = lows_at(rows, dim) - steps_at(rows, dim);
    return steps_at(rows, dim) + Grid::numbers * plane;
  }

  void encode(const float* x, int dim, std::byte* tile, int rows, int first, int count) const {
    const int size = group(dim), groups = dim / size;
    std::byte *steps = tile + steps_at(rows, dim), *lows = tile + lows_at(rows, dim);
    row_codes u;
    for (int r = first; r < first + count; ++r, x += dim) {
      for (int g = 0; g < groups; ++g) {
        const auto scale = detail::encode_group<Grid>(x + g * size, size, u.data() + g * size);
        const std::size_t at = 2 * number_at<Layout>(r, g, rows, groups);
        detail::store_half(steps + at, scale.step);
        if constexpr (Grid::numbers > 1) detail::store_half(lows + at, scale.low);
      }
      if constexpr (flip != 0)
        for (int c = 0; c < dim; ++c) u[static_cast<std::size_t>(c)] ^= flip;
      codes::store(tile, dim, r, u.data());
    }
  }

  void decode(const std::byte* tile, int rows, int first, int count, int dim, float* x) const {
    const int size = group(dim), groups = dim / size;
    const std::byte *steps = tile + steps_at(rows, dim), *lows = tile + lows_at(rows, dim);
    row_codes u;
    for (int r = first; r < first + count; ++r) {
      codes::load(tile, dim, r, u.data());
      const std::uint8_t* code = u.data();
      for (int g = 0; g < groups; ++g, code += size, x += size) {
        const std::size_t at = 2 * number_at<Layout>(r, g, rows, groups);
        const float step = detail::load_half(steps + at);
        const float low = Grid::numbers > 1 ? detail::load_half(lows + at) : 0.0f;
        for (int i = 0; i < size; ++i) x[i] = Grid::value(static_cast<std::uint32_t>(code[i] ^ flip), step, low);
      }
    }
  }

  /// One number, as decode gives it.
  TERSEKV_HD float value(const std::byte* tile, int rows, int dim, int row, int channel) const {
    const int size = group(dim);
    const std::size_t at = 2 * number_at<Layout>(row, channel / size, rows, dim / size);
    const float low = Grid::numbers > 1 ? detail::load_half(tile + lows_at(rows, dim) + at) : 0.0f;
    return Grid::value(codes::code(tile, dim, row, channel) ^ flip, detail::load_half(tile + steps_at(rows, dim) + at),
                       low);
  }

  /// Row `from_row` of one tile becomes row `to_row` of another; both tiles hold `rows` rows.
  void move(std::byte* to, int to_row, const std::byte* from, int from_row, int rows, int dim) const {
    codes::move(to, to_row, from, from_row, dim);
    const int groups = dim / group(dim);
    const std::size_t plane = lows_at(rows, dim) - steps_at(rows, dim);
    to += steps_at(rows, dim), from += steps_at(rows, dim);
    for (int n = 0; n < Grid::numbers; ++n, to += plane, from += plane)
      for (int g = 0; g < groups; ++g)
        std::memmove(to + 2 * number_at<Layout>(to_row, g, rows, groups),
                     from + 2 * number_at<Layout>(from_row, g, rows, groups), 2);
  }

 private:
  using row_codes = std::array<std::uint8_t, detail::most_channels>;

  const char* codec_;  // for messages
};

}  // namespace tersekv
