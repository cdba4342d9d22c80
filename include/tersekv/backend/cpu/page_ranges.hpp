// SPDX-License-Identifier: Apache-2.0
// Between which numbers the bounds of all pages of a head lie, from their extremes in 8 bits, which are read as packed
// keys are.
// Read before: key_kernel.hpp, page_extremes.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <tersekv/backend/cpu/key_kernel.hpp>
#include <tersekv/page_extremes.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// Memory that begins a cache line.
struct alignas(64) line_of_floats {
  float of[16];
};

/// Of every page, and of what fills the last tile.
struct bound_ranges {
  std::vector<float> lowest, highest;
  std::vector<line_of_floats> prepared;  // queries

  void clear(int pages) {
    const auto n = static_cast<std::size_t>(round_up_to(pages, piece_rows));
    lowest.assign(n, -std::numeric_limits<float>::infinity());
    highest.assign(n, -std::numeric_limits<float>::infinity());
  }
};

/// Raises the ranges of pages to those of R queries, given as their positive and negative parts: [R, padded(key_dim)].
template <int R>
void raise_ranges(const page_extremes& of, int pages, int key_dim, const float* positive, const float* negative,
                  bound_ranges& to) {
  using keys = key_kernel<page_extremes::format>;
  static_assert(page_extremes::pages == piece_rows);
  constexpr int W = simd::lanes;
  const page_extremes::format& format = page_extremes::packed;
  const int dim = page_extremes::dim(key_dim), tiles = (pages + piece_rows - 1) / piece_rows;
  const std::size_t query_bytes = round_up_to(static_cast<int>(keys::query_bytes(format, dim, R)), 64);
  to.prepared.resize(2 * query_bytes / sizeof(line_of_floats));
  std::byte* const query[] = {reinterpret_cast<std::byte*>(to.prepared.data()),
                              reinterpret_cast<std::byte*>(to.prepared.data()) + query_bytes};
  simd::f32 length[R];  // of the queries
  for (int part = 0; part < 2; ++part) {
    const float* rows[R];
    for (int r = 0; r < R; ++r) rows[r] = (part == 0 ? positive : negative) + r * padded(key_dim);
    keys::template prepare<R>(format, rows, dim, query[part]);
  }
  simd::f32 base[R];  // what the page that came first has
  for (int r = 0; r < R; ++r) {
    const float *high = positive + r * padded(key_dim), *low = negative + r * padded(key_dim);
    simd::f32 sum = simd::zero();
    for (int c = 0; c < dim; c += W) {
      sum = simd::fma(simd::load(high + c), simd::load(of.origin() + c), sum);
      sum = simd::fma(simd::load(low + c), simd::load(of.origin() + dim + c), sum);
    }
    base[r] = simd::set(simd::sum(sum));
    const float a = extent_of(high, dim).length, b = extent_of(low, dim).length;
    length[r] = simd::set(std::sqrt(a * a + b * b));
  }
  // every number of a query is rounded by at most a step, of its largest over largest_factor
  const simd::f32 rounded =
      simd::set(std::sqrt(static_cast<float>(dim)) / static_cast<float>(simd::wide::largest_factor));
  alignas(64) float upper[R * soft_rows], lower[R * soft_rows];  // scores of maxima, of minima
  const std::size_t part_bytes = page_extremes::part_bytes(key_dim), tile_bytes = page_extremes::tile_bytes(key_dim);
  const auto place = [&](packed_piece* where, int first, int count, bool most) {
    for (int k = 0; k < count; ++k) {
      const std::byte* at = most ? of.most(first + k, key_dim) : of.least(first + k, key_dim);
      const bool more = most || first + k + tile_pieces < tiles;
      const auto ahead = static_cast<std::ptrdiff_t>(most ? part_bytes : tile_pieces * tile_bytes - part_bytes);
      where[k] = {at, 0, more ? ahead : 0};
    }
  };
  packed_piece most[tile_pieces], least[tile_pieces];
  tile_ahead ahead;
  for (int k = 0; k < std::min(tiles, tile_pieces); ++k) prefetch_all(of.most(k, key_dim), part_bytes);
  for (int t = 0; t < tiles; t += tile_pieces) {
    const int n = std::min(tile_pieces, tiles - t), later = std::clamp(tiles - t - n, 0, tile_pieces);
    const int lines = n * keys::piece_lines(dim);
    place(most, t, n, true);
    place(least, t, n, false);
    ahead.begin<piece_rows>(least, n, tile_bytes - part_bytes);
    ahead.spread(ahead.left(), lines);
    keys::template score<R>(format, {most, n, piece_rows, dim, &ahead}, query[0], upper);
    ahead.finish();
    place(most, t + n, later, true);
    ahead.begin<piece_rows>(most, later, part_bytes);
    ahead.spread(ahead.left(), lines);
    keys::template score<R>(format, {least, n, piece_rows, dim, &ahead}, query[1], lower);
    ahead.finish();
    for (int k = 0; k < n; ++k)
      for (int c = 0; c < piece_rows; c += W) {
        const simd::f32 spread = simd::load(of.spread(t + k, key_dim) + c);
        const simd::f32 off = simd::fma(rounded, spread, simd::load(of.error(t + k, key_dim) + c));
        float* lowest = to.lowest.data() + (t + k) * piece_rows + c;
        float* highest = to.highest.data() + (t + k) * piece_rows + c;
        simd::f32 low = simd::load(lowest), high = simd::load(highest);
        each<R>([&](auto r) TERSEKV_INLINED {
          const int i = r * soft_rows + k * piece_rows + c;
          const simd::f32 sum = simd::add(simd::add(simd::load(upper + i), simd::load(lower + i)), base[r]);
          const simd::f32 margin = simd::mul(length[r], off);
          low = simd::max(simd::sub(sum, margin), low);  // of what is not a number nothing is known: in or open
          high = simd::max(simd::add(sum, margin), high);
        });
        simd::store(lowest, low);
        simd::store(highest, high);
      }
  }
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
