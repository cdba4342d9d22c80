// SPDX-License-Identifier: Apache-2.0
// Where packed rows lie, and which lines are asked for while others are read.
#pragma once
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <tersekv/backend/cpu/factors.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

inline constexpr int line_bytes = 4 * block_lanes;  // a unit of a block is a line

class tile_ahead;

/// 32 rows of a tile of keys or values, and of all tiles of a kind: rows that a tile holds, numbers of a row.
struct packed_piece {
  const std::byte* tile;
  int first;             // row of the tile
  std::ptrdiff_t ahead;  // bytes to what is asked for meanwhile: a tile, or of numbers some pieces, further on
};
struct packed_pieces {
  const packed_piece* piece;
  int count, rows, dim;
  tile_ahead* next = nullptr;  // what is asked for while codes are read, where that does not stand `ahead` of them
};

/// A part of the pages of the next tile, asked for while this tile's codes are read: evenly, and of all its pieces in
/// turn, as processors follow lines that are next to each other, and have room for few that they were asked for.
/// docs/kernels.md
class tile_ahead {
 public:
  static constexpr int pieces = tile_pieces;

  /// The part that begins `from` bytes behind a page's tile and has `bytes`, of the pages of `count` pieces. Rows: of a
  /// page.
  template <int Rows, class Piece>
  void begin(const Piece* next, int count, std::size_t bytes, std::size_t from = 0) {
    constexpr int share = Rows / piece_rows;  // pieces of a page
    const std::size_t lines = (bytes / share + line_bytes - 1) / line_bytes;
    left_ = count > 0 ? static_cast<int>(lines) : 0;
    due_ = 0;
    asked_ = 0;
    for (int i = 0; i < pieces && count > 0; ++i) {
      const Piece& piece = next[i < count ? i : 0];
      at_[i] = piece.tile + from + static_cast<std::size_t>(piece.first / piece_rows) * lines * line_bytes;
    }
  }
  /// So many lines of each piece are to be asked for while `reads` lines are read.
  void spread(int lines, int reads) { rate_ = lines * one / std::max(reads, 1); }
  /// So many lines are being read.
  TERSEKV_INLINE void read(int lines) {
    due_ += lines * rate_;
    for (; due_ >= one && left_ > 0; due_ -= one) ask();
  }
  /// Asks for what is left.
  void finish() {
    while (left_ > 0) ask();
  }
  /// Lines of each piece that were not asked for yet, and the first of them of piece i.
  int left() const { return left_; }
  TERSEKV_INLINE const std::byte* line(int i) const { return at_[i] + asked_; }

 private:
  static constexpr int one = 1 << 12;
  TERSEKV_INLINE void ask() {
    each<pieces>([&](auto i) TERSEKV_INLINED { simd::prefetch(line(i)); });
    asked_ += line_bytes;
    --left_;
  }
  const std::byte* at_[pieces];
  std::ptrdiff_t asked_ = 0;
  int left_ = 0, due_ = 0, rate_ = 0;
};

/// What is asked for while lines are read: the same lines of the piece that stands `ahead`,
struct same_lines {
  static constexpr bool covers_scales = false;
  std::ptrdiff_t ahead;

  /// While piece i is read.
  static TERSEKV_INLINE same_lines of(const packed_pieces& all, int i) { return {all.piece[i].ahead}; }
  /// N lines of numbers, which are read at `at`.
  template <int N>
  TERSEKV_INLINE void ask(std::size_t, const std::byte* at) const {
    each<N>([&](auto n) TERSEKV_INLINED { simd::prefetch(at + n * line_bytes + ahead); });
  }
  /// A unit of codes of vector l of L, which is read at `at`; `units` of them are read in a row.
  template <int L, int Units, class Lane, class Unit>
  TERSEKV_INLINE void ask(Lane, Unit unit, const std::byte* at) const {
    // Two vectors of 8 lanes share a line: of two lines the first vector asks for the first, the second for the other.
    // Vectors of 4 ask for none.
    if constexpr (simd::lanes == block_lanes)
      simd::prefetch(at + ahead);
    else if constexpr (simd::lanes == 8 && unit % 2 == 0)
      simd::prefetch(at + line_bytes / 2 + ahead);
  }
};
/// or, of codes, of the next tile, whatever comes next,
struct tile_lines {
  static constexpr bool covers_scales = true;
  tile_ahead* next;

  static TERSEKV_INLINE tile_lines of(const packed_pieces& all, int) { return {all.next}; }
  template <int L, int Units, class Lane, class Unit>
  TERSEKV_INLINE void ask(Lane l, Unit unit, const std::byte*) const {
    if constexpr (l == 0 && unit == 0) next->read(L * Units);
  }
};
/// or, of numbers, lines of several pieces in turn: a quarter of each of four while one of four is read.
struct line_streams {
  static constexpr int count = simd::streams;
  const std::byte* at[count];

  /// While piece i is read. begin(piece): where a piece begins; bytes: its length.
  template <class Begin>
  static TERSEKV_INLINE line_streams of(const packed_pieces& all, int i, std::size_t bytes, Begin&& begin) {
    line_streams to;
    for (int s = 0; s < count; ++s) {
      const packed_piece& piece = all.piece[std::min(i / count * count + s, all.count - 1)];
      to.at[s] = begin(piece) + piece.ahead + static_cast<std::size_t>(i % count) * (bytes / count);
    }
    return to;
  }
  /// Lines first .. first + N of a piece; first is a multiple of N.
  template <int N>
  TERSEKV_INLINE void ask(std::size_t first, const std::byte*) const {
    each<N>([&](auto n) TERSEKV_INLINED { simd::prefetch(line<N>(first, n)); });
  }
  /// Line first + n; n < N.
  template <int N, class Number>
  TERSEKV_INLINE const std::byte* line(std::size_t first, Number n) const {
    if constexpr (N % count == 0)
      return at[n % count] + (first + n / count * count) / count * line_bytes;
    else
      return at[(first + n) % count] + (first + n) / count * line_bytes;
  }
};

using code_lines = std::conditional_t<(simd::streams > 1), tile_lines, same_lines>;

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
