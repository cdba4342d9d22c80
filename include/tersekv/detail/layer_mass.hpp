// SPDX-License-Identifier: Apache-2.0
// The attention mass that one layer leaves for policies, in memory that is kept between steps.
#pragma once
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace tersekv::detail {

/// [kv_heads, rows, stride]: rows as signal_rows says or blocks of a window of queries, stride over row indices. Empty
/// until the layer is attended.
class layer_mass {
 public:
  void forget() { stride_ = 0; }
  bool empty() const { return stride_ == 0; }
  int rows() const { return rows_; }
  /// The numbers are left as they are: one core that cleared all heads of a long sequence would keep the others
  /// waiting.
  void begin(int heads, int rows, int stride) {
    rows_ = rows, stride_ = stride;
    numbers_.resize(std::max(numbers_.size(), at(heads) * at(rows) * at(stride)));
  }
  void clear(int h) { std::fill_n(row(h, 0).begin(), at(rows_) * at(stride_), 0.0f); }
  std::span<float> row(int h, int r) { return {numbers_.data() + first(h, r), at(stride_)}; }
  std::span<const float> row(int h, int r) const { return {numbers_.data() + first(h, r), at(stride_)}; }
  std::size_t bytes() const { return numbers_.capacity() * sizeof(float); }

 private:
  std::size_t first(int h, int r) const { return (at(h) * at(rows_) + at(r)) * at(stride_); }
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  std::vector<float> numbers_;
  int rows_ = 0, stride_ = 0;
};

}  // namespace tersekv::detail
