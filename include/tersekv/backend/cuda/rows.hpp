// SPDX-License-Identifier: Apache-2.0
// What kernels know about a cache: plain structs, pointers to device memory, no toolkit needed to read them.
//
// Pages hold the bytes that the CPU backend writes (page_format.hpp, codec/layout.hpp): blocks of quads feed tensor
// cores as well as vector instructions, so a page may change sides. Counts live in device memory and change only in the
// kernels of commit: attention reads them there, and its launches depend on upper bounds only.
#pragma once
#include <cstddef>
#include <cstdint>

#include <tersekv/number.hpp>
#include <tersekv/view.hpp>

namespace tersekv::detail {

inline constexpr float log2_of_e = 1.44269504f, log_of_2 = 0.693147181f;

/// The committed rows of one (sequence, slot, head), in order: sinks | packed | window. As head_rows.hpp.
struct device_head {
  std::byte** page;     // [packed / rows of a page, rounded up] payload of pages, as page_format writes it
  int* position;        // [rows()] absolute; -1 = dead, packed rows only
  float* state;         // [rows(), columns] of the policies
  float* bias;          // [rows()] added to the logits; null = none
  half* sink_keys;      // [sinks, key_dim]
  half* sink_values;    // [sinks, value_dim]
  half* window_keys;    // [window, key_dim]
  half* window_values;  // [window, value_dim]
  int sinks, packed, dead, window;
  TERSEKV_HD int rows() const { return sinks + packed + window; }
};

using tersekv::element;

/// Numbers of an engine or of a staging area: [rows, heads, dim], strides in elements, dim contiguous.
struct device_array {
  void* data;
  element type;
  std::int64_t row_stride, head_stride;
  TERSEKV_HD std::int64_t at(int row, int head) const { return row * row_stride + head * head_stride; }
  friend bool operator==(const device_array&, const device_array&) = default;
};

inline device_array to_array(const view& x) { return {x.data(), x.type(), x.row_stride(), x.head_stride()}; }

/// The staging areas of slots that follow each other.
struct slot_arrays {
  device_array first;
  std::int64_t bytes;  // from one slot's to the next one's
  TERSEKV_HD device_array operator[](int slot) const {
    device_array one = first;
    one.data = static_cast<std::byte*>(one.data) + slot * bytes;
    return one;
  }
};

/// What a kernel gets for each sequence of a batch: in device memory, or, of one sequence, among its arguments.
template <class T>
class batch_of {
 public:
  batch_of() = default;
  batch_of(const T* all) : all_(all) {}
  batch_of(const T& one) : one_(one) {}
  TERSEKV_HD T operator[](int sequence) const {
    if (all_ != nullptr) return all_[sequence];
    return one_;
  }

 private:
  const T* all_ = nullptr;
  T one_{};
};

/// One sequence of a batch that attends to one slot.
struct device_query {
  const device_head* heads;   // [kv_heads] of the slot
  device_array queries, out;  // [n, query_heads, key_dim], [n, query_heads, value_dim]
  float* log_sum_exp;         // [n, query_heads], of the natural logarithm; null = not wanted
  device_array keys, values;  // the step's own rows [n, kv_heads, dim]
  const int* length;          // position of the first query and of the first own row
  int n;                      // tokens of the step
  int* fault = nullptr;       // as stage_rows has it, of the queries; decode attention looks where it is not null
  friend bool operator==(const device_query&, const device_query&) = default;
};

/// What is common to a batch. Query i stands at *length + i and sees positions above its own minus `window` (0 = all)
/// up to its own, or up to the one before where it does not see itself.
struct attend_shape {
  int kv_heads, group;  // query heads per KV head
  float scale;          // of the logits
  int window;
  bool sees_self;
};

/// Of a sequence whose queries are not those of the step but the newest of a prompt, for policies that look at a window
/// of them.
struct device_window {
  const int* position;  // [n] of the queries
  int own;              // rows of the step that count
};

/// Which packed pages are read: all of them, or those of a list, ascending.
struct chosen_pages {
  const int* pages = nullptr;  // [count]; null = all
  int count = 0;
};
/// Lists for every (sequence, KV head) of a batch.
struct page_lists {
  const int* pages = nullptr;   // [sequences, kv_heads, stride]; null = all pages of every head
  const int* counts = nullptr;  // [sequences, kv_heads]
  int stride = 0;
  TERSEKV_HD chosen_pages of(int head) const {
    if (!pages) return {};
    return {pages + static_cast<std::int64_t>(head) * stride, counts[head]};
  }
};

/// Where rows are kept; `own` are those of the step.
enum class row_part : unsigned char { sinks, packed, window, own };

/// Which positions a query sees.
struct sight_range {
  int oldest, newest;
  TERSEKV_HD sight_range(const attend_shape& shape, int position)
      : oldest(shape.window > 0 && position >= shape.window ? position - shape.window + 1 : 0),
        newest(shape.sees_self ? position : position - 1) {}
  TERSEKV_HD bool sees(int position) const { return position >= oldest && position <= newest; }
};

}  // namespace tersekv::detail
