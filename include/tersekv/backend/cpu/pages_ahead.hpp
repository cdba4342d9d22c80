// SPDX-License-Identifier: Apache-2.0
// What is asked for while tiles of packed pages are attended to: the pages that follow.
#pragma once
#include <tersekv/backend/cpu/value_kernel.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

template <class Format>
inline constexpr bool holds_numbers = false;
template <class T>
inline constexpr bool holds_numbers<dense_format<T>> = true;

/// For one item, in the order of calls. A tile is alone if its values are read right after its keys: then all of the
/// next tile is asked for meanwhile, otherwise its keys while keys are read, and its values while values are.
/// Page = page_format<...>; Piece names rows of a page: its tile, and the first row.
template <class Page, class Piece>
class pages_ahead {
  using keys = key_kernel<typename Page::key_format>;
  using values = value_kernel<typename Page::value_format>;

 public:
  explicit pages_ahead(const Page& page)
      : page_(page), key_bytes_(page.keys.bytes(Page::rows, page.key_dim)),
        value_bytes_(page.values.bytes(Page::rows, page.value_dim)) {}

  tile_ahead* lines() { return &lines_; }

  /// Nobody asked for an item's first tile: its keys, and while they are read, its values.
  void ask_first(const Piece* piece, int count) const { ask_all(piece, count, 0, key_bytes_); }
  void ask_first_values(const Piece* piece, int count) const {
    ask_all(piece, count, page_.value_offset(), value_bytes_);
  }

  /// Where keys of `count` pieces lie, and what is asked for meanwhile where they are numbers. next: of the tile that
  /// follows; left: pieces of the item from this tile on.
  TERSEKV_INLINE void name_keys(packed_piece* to, const Piece* piece, int count, const Piece* next, int left) const {
    for (int k = 0; k < count; ++k) to[k] = {piece[k].tile, piece[k].first, distance<large_keys>(piece, next, k, left)};
  }
  TERSEKV_INLINE void name_values(packed_piece* to, const Piece* piece, int count, const Piece* next, int left) const {
    for (int k = 0; k < count; ++k) {
      to[k].tile = page_.values_of(piece[k].tile);
      if constexpr (large_keys != large_values) to[k].ahead = distance<large_values>(piece, next, k, left);
    }
  }
  /// Large pages of numbers: the addresses of the tile after the next, from piece number `first` to before `last`.
  template <class Source>
  TERSEKV_INLINE void ask_addresses(Source& name_pieces, int first, int last) const {
    if constexpr (large_keys)
      for (; first < last; ++first) {
        Piece one;
        name_pieces(first, 1, &one);
        prefetch_addresses(one.tile, page_.bytes());
      }
  }

  TERSEKV_INLINE void begin_keys(bool alone, int count, const Piece* next, int next_count) {
    if constexpr (key_codes) {
      const bool whole = alone && value_codes;
      lines_.template begin<Page::rows>(next, next_count, whole ? page_.value_offset() + value_bytes_ : key_bytes_);
      lines_.spread(whole ? lines_.left() * 3 / 8 : lines_.left(), count * keys::piece_lines(page_.key_dim));
    }
  }
  TERSEKV_INLINE void finish_keys(bool alone) {
    if constexpr (key_codes)
      if (!alone || !value_codes) lines_.finish();
  }
  /// mixed: values of the tile that are read next, where its keys were read before; null = those of `next`.
  TERSEKV_INLINE void begin_values(bool alone, int count, const packed_piece* mixed, const Piece* next,
                                   int next_count) {
    if constexpr (value_codes) {
      if (!alone || !key_codes) {
        if (mixed)
          lines_.template begin<Page::rows>(mixed, next_count, value_bytes_);
        else
          lines_.template begin<Page::rows>(next, next_count, value_bytes_, page_.value_offset());
      }
      lines_.spread(lines_.left(), count * values::piece_lines(page_.value_dim));
    }
  }
  TERSEKV_INLINE void finish_values() {
    if constexpr (value_codes) lines_.finish();
  }

 private:
  /// Whether what is asked for while codes are read is the next tile as a whole.
  template <class Kernel>
  static constexpr bool asks_for_tiles = Kernel::reads_codes&& std::is_same_v<code_lines, tile_lines>;
  static constexpr bool key_codes = asks_for_tiles<keys>, value_codes = asks_for_tiles<values>;
  static constexpr bool large_keys = holds_numbers<typename Page::key_format> && Page::rows == piece_rows;
  static constexpr bool large_values = holds_numbers<typename Page::value_format> && Page::rows == piece_rows;

  /// From piece k to the piece that is asked for meanwhile: of large pages, as many pieces further on as are asked for
  /// in turn are enough.
  template <bool Large>
  static TERSEKV_INLINE std::ptrdiff_t distance(const Piece* piece, const Piece* next, int k, int left) {
    const int to = k + (Large ? simd::streams : tile_pieces);
    if (to >= left) return 0;
    return (to < tile_pieces ? piece[to] : next[to - tile_pieces]).tile - piece[k].tile;
  }
  static void ask_all(const Piece* piece, int count, std::size_t from, std::size_t bytes) {
    for (int k = 0; k < count; ++k)
      if (piece[k].first == 0) prefetch_all(piece[k].tile + from, bytes);
  }

  const Page& page_;
  std::size_t key_bytes_, value_bytes_;
  tile_ahead lines_;
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
