// SPDX-License-Identifier: Apache-2.0
// Where packed rows lie, and which lines are asked for while others are read.
#pragma once
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <tersekv/backend/cpu/simd.hpp>
#include <tersekv/codec/layout.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

inline constexpr int line_bytes = 4 * block_lanes;  // a unit of a block is a line

/// 32 rows of a tile of keys or values, and of all tiles of a kind: rows that a tile holds, numbers of a row.
struct packed_piece {
  const std::byte* tile;
  int first;             // row of the tile
  std::ptrdiff_t ahead;  // bytes to what is asked for meanwhile: a tile, or of numbers some pieces, further on
};
struct packed_pieces {
  const packed_piece* piece;
  int count, rows, dim;
};

/// What is asked for while lines are read: the same lines of the piece that stands `ahead`,
struct same_lines {
  std::ptrdiff_t ahead;

  /// While piece i is read. codes(piece): where a piece begins; bytes: its length.
  template <class Codes>
  static TERSEKV_INLINE same_lines of(const packed_pieces& all, int i, std::size_t, Codes&&) {
    return {all.piece[i].ahead};
  }
  TERSEKV_INLINE void skip(std::size_t) {}
  /// Lines first .. first + N of a piece, which are read at `at`; first is a multiple of N.
  template <int N>
  TERSEKV_INLINE void ask(std::size_t, const std::byte* at) const {
    each<N>([&](auto n) TERSEKV_INLINED { simd::prefetch(at + n * line_bytes + ahead); });
  }
  /// A unit of codes of vector l of L; `units` of them are read in a row, after `before` others of the block.
  template <int L, int Units, class Lane, class Unit>
  TERSEKV_INLINE void ask(Lane, Unit unit, std::size_t, const std::byte* at) const {
    // Two vectors of 8 lanes share a line: of two lines the first vector asks for the first, the second for the other.
    if constexpr (simd::lanes == block_lanes)
      simd::prefetch(at + ahead);
    else if constexpr (simd::lanes == 8 && unit % 2 == 0)
      simd::prefetch(at + line_bytes / 2 + ahead);
  }
};
/// or lines of several pieces in turn: processors follow them better than one after the other. docs/kernels.md
struct line_streams {
  static constexpr int count = simd::streams;
  const std::byte* at[count];

  template <class Codes>
  static TERSEKV_INLINE line_streams of(const packed_pieces& all, int i, std::size_t bytes, Codes&& codes) {
    line_streams to;
    for (int s = 0; s < count; ++s) {
      const packed_piece& piece = all.piece[std::min(i / count * count + s, all.count - 1)];
      to.at[s] = codes(piece) + piece.ahead + static_cast<std::size_t>(i % count) * (bytes / count);
    }
    return to;
  }
  /// So many bytes of each were asked for.
  TERSEKV_INLINE void skip(std::size_t bytes) {
    for (const std::byte*& p : at) p += bytes;
  }
  template <int N>
  TERSEKV_INLINE void ask(std::size_t first, const std::byte*) const {
    each<N>([&](auto n) TERSEKV_INLINED { simd::prefetch(line<N>(first, n)); });
  }
  template <int L, int Units, class Lane, class Unit>
  TERSEKV_INLINE void ask(Lane l, Unit unit, std::size_t before, const std::byte*) const {
    simd::prefetch(unit_line<L, Units>(l, unit, before));
  }
  template <int L, int Units, class Lane, class Unit>
  TERSEKV_INLINE const std::byte* unit_line(Lane l, Unit unit, std::size_t before) const {
    static_assert(count == 1 || simd::lanes == block_lanes);
    return line<Units * L>(before * L, std::integral_constant<int, unit * L + l>{});
  }
  /// Line first + n; first is a multiple of N, n < N.
  template <int N, class Number>
  TERSEKV_INLINE const std::byte* line(std::size_t first, Number n) const {
    if constexpr (N % count == 0)
      return at[n % count] + (first + n / count * count) / count * line_bytes;
    else
      return at[(first + n) % count] + (first + n) / count * line_bytes;
  }
};

using lines_ahead = std::conditional_t<(simd::streams > 1), line_streams, same_lines>;

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
