// SPDX-License-Identifier: Apache-2.0
// How decode attention is cut, and where parts leave what they found. Host and device; no toolkit needed.
#pragma once
#include <cstddef>

#include <tersekv/backend/cuda/rows.hpp>
#include <tersekv/backend/cuda/tuning.hpp>

namespace tersekv::detail {

/// Upper bounds over a batch; counts themselves are in device memory.
struct decode_limits {
  int sequences;
  int tokens;   // of a step
  int packed;   // packed rows of a head
  int numbers;  // rows of a head that are sinks or wait in the window
};

/// What a step leaves for column_mass (mass.cuh): weights relative to a reference, for pieces of 32 rows. Pieces:
/// sinks, packed, window, own rows, each part rounded up; with page lists those of the list.
struct decode_record {
  unsigned* weights = nullptr;  // [sequences, kv_heads, pieces, octets of query rows, 32 rows, 4] pairs of halves
  float* references = nullptr;  // [sequences, kv_heads, pieces, octets, 8], base 2
};

/// Splits hold a fixed number of pieces of 32 rows, by index: first those of rows that are numbers, then packed ones.
struct decode_plan {
  int kv_heads, query_rows;  // tokens * group
  int number_splits, packed_splits, pieces_of_split;
  int sequences, pieces;  // of a record

  decode_plan(const attend_shape& shape, const decode_limits& most)
      : kv_heads(shape.kv_heads), query_rows(most.tokens * shape.group), sequences(most.sequences) {
    const int own = divide(most.tokens, 32), packed = divide(most.packed, 32);
    const int numbers = 2 + divide(most.numbers, 32) + own;  // sinks and window are rounded up apart
    number_splits = divide(numbers, tuning::number_pieces);
    const int heads = shape.kv_heads * sequences;
    const int wanted = divide(tuning::decode_blocks, heads > 0 ? heads : 1);
    pieces_of_split = divide(packed, wanted);
    pieces_of_split = pieces_of_split < tuning::fewest_pieces ? tuning::fewest_pieces
                      : pieces_of_split > tuning::most_pieces ? tuning::most_pieces
                                                              : divide(pieces_of_split, 4) * 4;
    packed_splits = divide(packed, pieces_of_split);
    pieces = packed + numbers;
  }
  TERSEKV_HD int splits() const { return number_splits + packed_splits; }
  TERSEKV_HD int octets() const { return divide(query_rows, 8); }
  TERSEKV_HD static constexpr int divide(int n, int by) { return (n + by - 1) / by; }

  /// Of split `split` of a head, row `row`: in units of value_dim, or of one.
  TERSEKV_HD std::size_t part(int sequence, int kv_head, int split, int row) const {
    return ((static_cast<std::size_t>(sequence) * static_cast<std::size_t>(kv_heads) +
             static_cast<std::size_t>(kv_head)) *
                static_cast<std::size_t>(splits()) +
            static_cast<std::size_t>(split)) *
               static_cast<std::size_t>(query_rows) +
           static_cast<std::size_t>(row);
  }
  TERSEKV_HD std::size_t parts() const { return part(sequences, 0, 0, 0); }
  /// Octet `octet` of piece `piece` of a record.
  TERSEKV_HD std::size_t recorded(int sequence, int kv_head, int piece, int octet) const {
    return ((static_cast<std::size_t>(sequence) * static_cast<std::size_t>(kv_heads) +
             static_cast<std::size_t>(kv_head)) *
                static_cast<std::size_t>(pieces) +
            static_cast<std::size_t>(piece)) *
               static_cast<std::size_t>(octets()) +
           static_cast<std::size_t>(octet);
  }
};

/// Which rows a piece of a head is made of.
struct piece_place {
  row_part part;
  int first;  // row of the part
  int rows;   // of the piece, at most 32
  int index;  // of its first row among sinks | packed | window | own
};

/// Pieces of the rows that are numbers: sinks, window, the step's own.
struct number_pieces {
  int sinks, packed, window, own;
  TERSEKV_HD static int pieces(int rows) { return decode_plan::divide(rows, 32); }
  TERSEKV_HD int count() const { return pieces(sinks) + pieces(window) + pieces(own); }
  TERSEKV_HD piece_place at(int i) const {
    if (i < pieces(sinks)) return cut(row_part::sinks, i, sinks, 0);
    i -= pieces(sinks);
    if (i < pieces(window)) return cut(row_part::window, i, window, sinks + packed);
    return cut(row_part::own, i - pieces(window), own, sinks + packed + window);
  }

 private:
  TERSEKV_HD static piece_place cut(row_part part, int i, int rows, int index) {
    const int first = 32 * i, left = rows - first;
    return {part, first, left < 32 ? left : 32, index + first};
  }
};

/// Which pieces a split of one head reads. Splits without pieces leave nothing behind.
struct decode_extent {
  int numbers, packed;  // pieces
  int number_splits, pieces_of_split;

  TERSEKV_HD decode_extent(const decode_plan& plan, const page_lists& lists, const device_query& query, int sequence,
                           int kv_head, int pieces_of_page)
      : number_splits(plan.number_splits), pieces_of_split(plan.pieces_of_split) {
    const device_head& head = query.heads[kv_head];
    numbers = number_pieces{head.sinks, head.packed, head.window, query.n}.count();
    packed = lists.pages == nullptr ? decode_plan::divide(head.packed, 32)
                                    : lists.of(sequence * plan.kv_heads + kv_head).count * pieces_of_page;
  }
  TERSEKV_HD int first(int split) const {
    return split < number_splits ? split * tuning::number_pieces : (split - number_splits) * pieces_of_split;
  }
  TERSEKV_HD int last(int split) const {
    const bool number = split < number_splits;
    const int end = first(split) + (number ? tuning::number_pieces : pieces_of_split), all = number ? numbers : packed;
    return end < all ? end : all;
  }
  TERSEKV_HD bool has(int split) const { return first(split) < last(split); }
};

}  // namespace tersekv::detail
