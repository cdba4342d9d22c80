// SPDX-License-Identifier: Apache-2.0
// Any row that the queries of one KV head meet, number by number, whatever its format. Readable, not fast: what has no
// kernel of its own uses it, and tests compare with it.
//
// Packed rows come first, because under through<> they stand in another basis: a kernel attends to them with turned
// queries, turns its output back, and goes on with the parts that are stored as they came.
#pragma once
#include <tersekv/adapt/through.hpp>
#include <tersekv/backend/cuda/elements.cuh>
#include <tersekv/backend/cuda/turn.cuh>
#include <tersekv/page_format.hpp>

namespace tersekv::detail {

/// The format that wrote the codes, and whether it saw transformed rows.
template <class Format>
struct stored_basis {
  using format = Format;
  static constexpr bool turned = false;
  __device__ static void turn(const Format&, float*, int) {}
  TERSEKV_HD static const Format& codes(const Format& f) { return f; }
};
template <transform Transform, class Format, bool Keys>
struct stored_basis<through_format<Transform, Format, Keys>> {
  using format = Format;
  static constexpr bool turned = true;
  /// A query in shared memory; the whole warp calls.
  __device__ static void turn(const through_format<Transform, Format, Keys>& f, float* q, int dim) {
    turn_query(f.turn, q, dim);
  }
  TERSEKV_HD static const Format& codes(const through_format<Transform, Format, Keys>& f) { return f.inner; }
};

/// One sequence's queries and own rows.
struct step_view {
  const device_query& query;
  const int* query_position = nullptr;  // [n]; null: *length + token
  int own = 0;                          // rows of the step
  __device__ step_view(const device_query* batch, const device_window* windows, int sequence)
      : query(batch[sequence]), own(query.n) {
    if (windows) query_position = windows[sequence].position, own = windows[sequence].own;
  }
  __device__ int position(int token) const {
    return query_position ? load(query_position + token) : *query.length + token;
  }
};

/// Rows of a part are counted from 0; `index` is the row index over sinks | packed | window | own.
template <class Page>
struct head_reader {
  const Page& page;
  const device_head& head;
  const step_view& step;
  int kv_head;
  chosen_pages chosen;

  /// Rows to visit. Of packed rows, some may lie behind the last: these have no position.
  template <row_part P>
  __device__ int count() const {
    if constexpr (P == row_part::packed) return chosen.pages ? chosen.count * Page::rows : head.packed;
    if constexpr (P == row_part::sinks) return head.sinks;
    if constexpr (P == row_part::window) return head.window;
    return step.own;
  }
  template <row_part P>
  __device__ int index(int row) const {
    if constexpr (P == row_part::packed) return head.sinks + packed_row(row);
    if constexpr (P == row_part::sinks) return row;
    if constexpr (P == row_part::window) return head.sinks + head.packed + row;
    return head.rows() + row;
  }
  /// -1 = nobody sees it.
  template <row_part P>
  __device__ int position(int row) const {
    if constexpr (P == row_part::own) return *step.query.length + row;
    if (P == row_part::packed && packed_row(row) >= head.packed) return -1;
    return load(head.position + index<P>(row));
  }
  template <row_part P>
  __device__ float bias(int row) const {
    if constexpr (P == row_part::own) return 0.0f;
    return head.bias ? load(head.bias + index<P>(row)) : 0.0f;
  }
  template <row_part P>
  __device__ float key(int row, int channel) const {
    if constexpr (P == row_part::packed) {
      using basis = stored_basis<typename Page::key_format>;
      const int r = packed_row(row);
      return basis::codes(page.keys).value(head.page[r / Page::rows], Page::rows, page.key_dim, r % Page::rows,
                                           channel);
    } else {
      const device_array a = key_array<P>();
      return read_element(a, a.at(row, kv_head) + channel);
    }
  }
  template <row_part P>
  __device__ float value(int row, int channel) const {
    if constexpr (P == row_part::packed) {
      using basis = stored_basis<typename Page::value_format>;
      const int r = packed_row(row);
      return basis::codes(page.values)
          .value(page.values_of(head.page[r / Page::rows]), Page::rows, page.value_dim, r % Page::rows, channel);
    } else {
      const device_array a = value_array<P>();
      return read_element(a, a.at(row, kv_head) + channel);
    }
  }
  /// Row of the head's packed rows.
  __device__ int packed_row(int row) const {
    return chosen.pages ? load(chosen.pages + row / Page::rows) * Page::rows + row % Page::rows : row;
  }
  /// Rows that are numbers; those of the step are one head among others.
  template <row_part P>
  __device__ device_array key_array() const {
    if constexpr (P == row_part::own) return step.query.keys;
    half* rows = P == row_part::sinks ? head.sink_keys : head.window_keys;
    return {rows, element::f16, page.key_dim, 0};
  }
  template <row_part P>
  __device__ device_array value_array() const {
    if constexpr (P == row_part::own) return step.query.values;
    half* rows = P == row_part::sinks ? head.sink_values : head.window_values;
    return {rows, element::f16, page.value_dim, 0};
  }
};

}  // namespace tersekv::detail
