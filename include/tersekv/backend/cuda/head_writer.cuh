// SPDX-License-Identifier: Apache-2.0
// One head's rows as one block changes them: head_rows.hpp on a device.
//
// Every thread holds the same copy of the head; its counts are stored when the commit is done. Functions are for the
// whole block; each ends with a barrier.
#pragma once
#include <tersekv/backend/cuda/block.cuh>
#include <tersekv/backend/cuda/page_rows.cuh>
#include <tersekv/backend/cuda/pages.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

/// What a head gets of a commit. Its list: live committed rows in order, then accepted staged ones.
struct head_entry {
  const unsigned char* keep;                // [list] null = all stay
  const unsigned char* changed;             // [list] rows that merging has rewritten; null = none
  const float* keys;                        // [list, key_dim] of these; likewise values
  const float* values;                      // [list, value_dim]
  const float* bias;                        // [list]
  const float* state;                       // [accepted, columns] of staged rows
  device_array staged_keys, staged_values;  // [tokens, kv_heads, dim]
  int kv_head, length, accepted;
};

/// Page = page_format<...>; Columns = floats of state per row; Biased = rows carry a logit bias.
template <class Page, int Columns, bool Biased>
struct head_writer {
  device_head head;
  const head_entry& entry;
  const page_writer<Page>& pages;
  const device_pool& pool;
  int* scratch;      // [most_warps]
  std::byte** page;  // [1] for all threads

  __device__ int page_count() const { return pages_of<Page::rows>(head); }
  __device__ int filled(int p) const {
    const int left = head.packed - p * Page::rows;
    return left < Page::rows ? left : Page::rows;
  }
  __device__ bool is_packed(int i) const { return i >= head.sinks && i < head.sinks + head.packed; }
  __device__ std::size_t payload_bytes() const { return pool.page_bytes - page_header; }

  // ---------------------------------------------------------------------------------------------------------- columns
  /// What stands in the columns of one row, on its way to another.
  struct columns {
    int position;
    float state[Columns > 0 ? Columns : 1], bias;
  };
  __device__ columns read_columns(int i) const {
    columns c{head.position[i], {}, 0.0f};
    TERSEKV_UNROLL
    for (int n = 0; n < Columns; ++n) c.state[n] = head.state[static_cast<std::int64_t>(i) * Columns + n];
    if constexpr (Biased) c.bias = head.bias[i];
    return c;
  }
  __device__ void write_columns(int i, const columns& c) const {
    head.position[i] = c.position;
    TERSEKV_UNROLL
    for (int n = 0; n < Columns; ++n) head.state[static_cast<std::int64_t>(i) * Columns + n] = c.state[n];
    if constexpr (Biased) head.bias[i] = c.bias;
  }
  /// Columns first .. last move together where rows stay. Returns where the last one ends.
  template <class Stays>
  __device__ int keep_columns(int first, int last, Stays stays) const {
    int to = first;
    for (int begin = first; begin < last; begin += static_cast<int>(blockDim.x)) {
      const int i = begin + static_cast<int>(threadIdx.x);
      const bool mine = i < last && stays(i);
      columns c{};
      if (mine) c = read_columns(i);
      int count;
      const int rank = block_rank(mine, scratch, count);  // all have read before one writes
      if (mine) write_columns(to + rank, c);
      to += count;
    }
    __syncthreads();
    return to;
  }

  // ---------------------------------------------------------------------------------------------------------- dense
  /// Rows of data [rows, dim] move together where they stay. A thread owns a channel.
  template <class Stays>
  __device__ static void keep_rows(half* data, int dim, int rows, Stays stays) {
    constexpr int some = 8;  // loads under way
    each_thread(dim, [&](int c) {
      int to = 0;
      for (int r = 0; r < rows; r += some) {
        half x[some];
        TERSEKV_UNROLL
        for (int k = 0; k < some; ++k)
          if (r + k < rows) x[k] = data[static_cast<std::int64_t>(r + k) * dim + c];
        TERSEKV_UNROLL
        for (int k = 0; k < some; ++k)
          if (r + k < rows && stays(r + k)) data[static_cast<std::int64_t>(to++) * dim + c] = x[k];
      }
    });
  }
  /// data [first .. first + count, dim] = number(k, channel), k < count
  template <class Number>
  __device__ static void write_rows(half* data, int dim, int first, int count, Number number) {
    each_thread(count * dim, [&](int i) {
      data[static_cast<std::int64_t>(first) * dim + i] = from_float<half>(number(i / dim, i % dim));
    });
  }

  // ---------------------------------------------------------------------------------------------------------- pages
  /// Page p has no other holder.
  __device__ void own_page(int p) const {
    std::byte* mine = head.page[p];
    if (threadIdx.x == 0) *page = is_alone(mine) ? nullptr : take_page(pool);
    __syncthreads();
    if (std::byte* copy = *page) {
      each_thread(static_cast<int>(payload_bytes() / sizeof(uint4)),
                  [&](int i) { reinterpret_cast<uint4*>(copy)[i] = reinterpret_cast<const uint4*>(mine)[i]; });
      __syncthreads();
      if (threadIdx.x == 0) {
        head.page[p] = copy;
        drop_page(pool, mine);
      }
    }
    __syncthreads();
  }
  __device__ void clear(std::byte* bytes, std::size_t count) const {
    each_thread(static_cast<int>(count / sizeof(uint4)),
                [&](int i) { reinterpret_cast<uint4*>(bytes)[i] = make_uint4(0, 0, 0, 0); });
    __syncthreads();
  }
  /// The summary of page p, from its live rows.
  __device__ void resummarize(int p) const {
    const int* position = head.position + head.sinks + p * Page::rows;
    pages.summarize(head.page[p], 0, filled(p), true, [&](int r) { return position[r] >= 0; });
  }

  // ----------------------------------------------------------------------------------------------------------
  // rewriting
  /// Changed committed rows take their new numbers; packed ones only where each row is written alone.
  __device__ void rewrite() const {
    if (!entry.changed) return;
    const int dk = pages.page.key_dim, dv = pages.page.value_dim;
    const auto dense = [&](half* keys, half* values, int rows, int list, int index) {
      const auto each = [&](half* data, int dim, const float* from) {
        each_thread(rows * dim, [&](int i) {
          if (entry.changed[list + i / dim])
            data[i] = from_float<half>(from[static_cast<std::int64_t>(list) * dim + i]);
        });
      };
      each(keys, dk, entry.keys);
      each(values, dv, entry.values);
      each_thread(rows, [&](int r) {
        if (entry.changed[list + r]) set_bias(index + r, list + r);
      });
    };
    dense(head.sink_keys, head.sink_values, head.sinks, 0, 0);
    dense(head.window_keys, head.window_values, head.window, head.rows() - head.dead - head.window,
          head.sinks + head.packed);
    if constexpr (Page::span == 1)
      for (int p = 0, list = head.sinks; p < page_count(); ++p) list = rewrite_page(p, list);
    __syncthreads();
  }

  // ---------------------------------------------------------------------------------------------------------- leaving
  /// Dense rows are removed, packed rows are marked dead. Returns how many left.
  __device__ int remove() {
    if (!entry.keep) return 0;
    int left = 0, list = head.sinks;  // of the packed rows
    for (int begin = 0; begin < head.packed; begin += static_cast<int>(blockDim.x)) {
      const int i = begin + static_cast<int>(threadIdx.x);
      const bool live = i < head.packed && head.position[head.sinks + i] >= 0;
      int count;
      const int rank = block_rank(live, scratch, count);
      const bool leaves = live && !entry.keep[list + rank];
      list += count;
      if (leaves) head.position[head.sinks + i] = -1;
      block_rank(leaves, scratch, count);
      left += count;
    }
    head.dead += left;
    const auto sink_stays = [keep = entry.keep](int r) { return keep[r] != 0; };
    const auto window_stays = [keep = entry.keep + list](int r) { return keep[r] != 0; };
    const int sinks = leaving(head.sinks, sink_stays), window = leaving(head.window, window_stays);
    if (sinks > 0) keep_both(head.sink_keys, head.sink_values, head.sinks, sink_stays);
    if (window > 0) keep_both(head.window_keys, head.window_values, head.window, window_stays);
    const int behind = head.sinks + head.packed;
    if (sinks + window > 0)
      keep_columns(0, head.rows(),
                   [&](int i) { return i < head.sinks ? sink_stays(i) : i < behind || window_stays(i - behind); });
    head.sinks -= sinks, head.window -= window;
    return left + sinks + window;
  }

  // ---------------------------------------------------------------------------------------------------------- entering
  /// Columns of the accepted staged rows that stay, behind all others; `live` committed rows are before them in the
  /// list. Returns how many; `sinks` of them stand below the codec's position of sinks.
  __device__ int enter(int live, int most_sinks, int& sinks) const {
    int entered = 0;
    sinks = 0;
    for (int begin = 0; begin < entry.accepted; begin += static_cast<int>(blockDim.x)) {
      const int j = begin + static_cast<int>(threadIdx.x), position = entry.length + j;
      const bool mine = j < entry.accepted && (!entry.keep || entry.keep[live + j]);
      int count;
      const int rank = block_rank(mine, scratch, count);
      if (mine) {
        columns c{position, {}, 0.0f};
        TERSEKV_UNROLL
        for (int n = 0; n < Columns; ++n) c.state[n] = entry.state[static_cast<std::int64_t>(j) * Columns + n];
        if constexpr (Biased)
          if (entry.changed && entry.changed[live + j]) c.bias = entry.bias[live + j];
        write_columns(head.rows() + entered + rank, c);
      }
      entered += count;
      block_rank(mine && position < most_sinks, scratch, count);
      sinks += count;
    }
    __syncthreads();
    return entered;
  }
  /// Pages for `count` rows behind the packed part.
  __device__ void open_pages(int count) const {
    const int before = page_count(), after = (head.packed + count + Page::rows - 1) / Page::rows;
    if (count > 0 && head.packed % Page::rows != 0) own_page(before - 1);
    each_thread(after - before, [&](int i) { head.page[before + i] = take_page(pool); });
    __syncthreads();
  }
  /// Rows are packed behind the packed part; their columns are there already. count is a multiple of span.
  template <class Key, class Value>
  __device__ void pack(int count, Key key, Value value) {
    open_pages(count);
    for (int done = 0; done < count;) {
      const int used = head.packed % Page::rows, room = Page::rows - used;
      const int now = count - done < room ? count - done : room;
      std::byte* bytes = head.page[head.packed / Page::rows];
      if (used == 0) clear(bytes, payload_bytes());
      pages.encode(
          bytes, used, now, [&](int k, int c) { return key(done + k, c); },
          [&](int k, int c) { return value(done + k, c); });
      head.packed += now, done += now;
    }
  }
  template <class Stays>
  __device__ void keep_both(half* keys, half* values, int rows, Stays stays) const {
    keep_rows(keys, pages.page.key_dim, rows, stays);
    keep_rows(values, pages.page.value_dim, rows, stays);
    __syncthreads();
  }

 private:
  __device__ void set_bias(int i, int list) const {
    if constexpr (Biased) head.bias[i] = entry.bias[list];
  }
  template <class Stays>
  __device__ int leaving(int rows, Stays stays) const {
    int left = 0;
    for (int begin = 0; begin < rows; begin += static_cast<int>(blockDim.x)) {
      const int r = begin + static_cast<int>(threadIdx.x);
      int count;
      block_rank(r < rows && !stays(r), scratch, count);
      left += count;
    }
    return left;
  }
  /// `list`: of the page's first live row. Returns that of the next page. Pages of rows alone are one warp long.
  __device__ int rewrite_page(int p, int list) const {
    static_assert(Page::span > 1 || Page::rows == 32);
    const int lane = lane_id(), index = head.sinks + p * Page::rows + lane;
    const bool live = lane < filled(p) && head.position[index] >= 0;
    const unsigned all = __ballot_sync(all_lanes, live), before = (1u << lane) - 1;
    const int mine = list + __popc(all & before);
    const unsigned rows = __ballot_sync(all_lanes, live && entry.changed[mine]);
    if (rows == 0) return list + __popc(all);
    if (threadIdx.x < 32 && (rows >> lane & 1) != 0) set_bias(index, mine);
    own_page(p);
    for (int r = 0; r < Page::rows; ++r) {
      if ((rows >> r & 1) == 0) continue;
      const std::int64_t from = list + __popc(all & ((1u << r) - 1));
      pages.encode(
          head.page[p], r, 1, [&](int, int c) { return entry.keys[from * pages.page.key_dim + c]; },
          [&](int, int c) { return entry.values[from * pages.page.value_dim + c]; });
    }
    resummarize(p);
    return list + __popc(all);
  }
};

}  // namespace tersekv::detail
