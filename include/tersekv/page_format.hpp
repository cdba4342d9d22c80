// SPDX-License-Identifier: Apache-2.0
// What one page of one head looks like in memory: a tile of keys, a tile of values, and the read policy's summary.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <string>

#include <tersekv/policy.hpp>
#include <tersekv/pool.hpp>

namespace tersekv {

template <class Codec, class Read>
struct page_format {
  using key_format = typename Codec::key_format;
  using value_format = typename Codec::value_format;
  static constexpr int span = std::lcm(key_format::span, value_format::span);  // rows that are packed together
  static constexpr int rows = std::lcm(32, span);                              // rows of a page
  static constexpr int largest_dim = 1024;                                     // kernels keep rows on the stack
  static constexpr bool summarizes = Read::selects;

  page_format(const Codec& codec, const Read& read, int key_dim, int value_dim)
      : keys(codec.for_keys()), values(codec.for_values()), read(read), key_dim(key_dim), value_dim(value_dim) {
    if (std::max(key_dim, value_dim) > largest_dim)
      throw shape_error("tersekv::cache: head_dim " + std::to_string(key_dim) + ", value_dim " +
                        std::to_string(value_dim) + "; at most " + std::to_string(largest_dim));
    keys.check(key_dim);
    values.check(value_dim);
    value_offset_ = aligned(keys.bytes(rows, key_dim));
    summary_offset_ = value_offset_ + aligned(values.bytes(rows, value_dim));
    bytes_ = page_ref::overhead + summary_offset_ + aligned(read.bytes(key_dim));
  }

  /// Bytes of a page as the pool allocates it.
  std::size_t bytes() const { return bytes_; }

  TERSEKV_HD std::byte* summary(std::byte* page) const { return page + summary_offset_; }
  TERSEKV_HD const std::byte* summary(const std::byte* page) const { return page + summary_offset_; }

  /// The tile of values, and where it begins.
  std::size_t value_offset() const { return value_offset_; }
  TERSEKV_HD std::byte* values_of(std::byte* page) const { return page + value_offset_; }
  TERSEKV_HD const std::byte* values_of(const std::byte* page) const { return page + value_offset_; }

  /// Rows first .. first + count of the page = k[count, key_dim], v[count, value_dim]; multiples of span.
  void encode(std::byte* page, int first, int count, const float* k, const float* v) const {
    keys.encode(k, key_dim, page, rows, first, count);
    values.encode(v, value_dim, page + value_offset_, rows, first, count);
    if constexpr (Read::selects) {  // what queries will meet: the keys as they are read back
      std::array<float, largest_dim> key;
      for (int r = first; r < first + count; ++r) {
        decode_keys(page, r, 1, key.data());
        read.summarize(summary(page), key.data(), 1, key_dim, r == 0);
      }
    }
  }
  void decode_keys(const std::byte* page, int first, int count, float* k) const {
    keys.decode(page, rows, first, count, key_dim, k);
  }
  void decode_values(const std::byte* page, int first, int count, float* v) const {
    values.decode(page + value_offset_, rows, first, count, value_dim, v);
  }
  /// Bit for bit; the summary of `to` is the caller's business.
  void move(std::byte* to, int to_row, const std::byte* from, int from_row) const requires(span == 1) {
    keys.move(to, to_row, from, from_row, rows, key_dim);
    values.move(to + value_offset_, to_row, from + value_offset_, from_row, rows, value_dim);
  }

  key_format keys;
  value_format values;
  Read read;
  int key_dim, value_dim;

 private:
  static std::size_t aligned(std::size_t n) { return (n + 15) / 16 * 16; }
  std::size_t value_offset_ = 0, summary_offset_ = 0, bytes_ = 0;
};

}  // namespace tersekv
