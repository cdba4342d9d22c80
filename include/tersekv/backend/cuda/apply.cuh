// SPDX-License-Identifier: Apache-2.0
// The part of a commit that changes rows: what commit_job::apply does, for all heads of a batch in one launch. A block
// has a head: changed rows are rewritten, rows leave, staged rows enter, are packed or wait in the window, and what
// dead rows hold is freed.
//
// Which rows stay and what merging made of them was found before, in device memory. The host has made sure of room in
// the arrays of each head and of enough free pages.
#pragma once
#include <tersekv/backend/cuda/compact.cuh>
#include <tersekv/backend/cuda/elements.cuh>

namespace tersekv::detail {

/// One sequence whose step is committed.
struct device_apply {
  device_head* heads;  // [slots, kv_heads]
  slot_arrays keys;    // [slots] staged rows [tokens, kv_heads, key_dim]
  slot_arrays values;  // [slots] likewise [tokens, kv_heads, value_dim]
  int length;          // of the sequence before the step
  int accepted;        // tokens of the step that are committed
  int* length_there;   // becomes length + accepted; null = stays
};

/// A batch. Head i = (sequence * slots + slot) * kv_heads + kv_head. The list of a head: its live committed rows in
/// order, then the accepted staged ones.
struct apply_batch {
  batch_of<device_apply> sequences;  // [count]
  int count, slots, kv_heads;
  int window, sinks;             // of the codec
  int most_rows, most_accepted;  // bounds of a list, and of accepted: strides of the following
  const float* staged_state;     // [heads, most_accepted, columns]; null where there are no columns
  const unsigned char* keep;     // [heads, most_rows] null = all rows stay
  const unsigned char* changed;  // [heads, most_rows] rows that merging has rewritten; null = none
  const float* keys;             // [heads, most_rows, key_dim] of these
  const float* values;           // [heads, most_rows, value_dim]
  const float* bias;             // [heads, most_rows] where rows carry one
  TERSEKV_HD int heads() const { return count * slots * kv_heads; }
};

template <class Page>
struct apply_arguments {
  Page page;
  device_pool pool;
  apply_batch batch;
  float* workspace;  // [heads, room]; null = rows fit in shared memory
  int room;          // floats
};

inline constexpr unsigned apply_threads = 256;

template <class Page>
using apply_memory = shared_layout<region<float, most_numbers>, region<coder, most_coders>, region<int, most_warps>,
                                   region<int, static_cast<std::size_t>(Page::rows)>, region<int, counted_pages>,
                                   region<std::byte*, 1>, region<head_entry, 1>>;

template <int Columns>
__device__ head_entry entry_of(const apply_batch& b, int head, int key_dim, int value_dim) {
  const device_apply s = b.sequences[head / (b.slots * b.kv_heads)];
  const int slot = head / b.kv_heads % b.slots;
  const std::int64_t list = static_cast<std::int64_t>(head) * b.most_rows;
  head_entry e{};
  if (b.keep) e.keep = b.keep + list;
  if (b.changed) {
    e.changed = b.changed + list;
    e.keys = b.keys + list * key_dim, e.values = b.values + list * value_dim;
    if (b.bias) e.bias = b.bias + list;
  }
  if constexpr (Columns > 0) e.state = b.staged_state + static_cast<std::int64_t>(head) * b.most_accepted * Columns;
  e.staged_keys = s.keys[slot], e.staged_values = s.values[slot];
  e.kv_head = head % b.kv_heads, e.length = s.length, e.accepted = s.accepted;
  return e;
}

template <class Page, int Columns, bool Biased>
__global__ void __launch_bounds__(apply_threads, 2) apply_kernel(const apply_arguments<Page> a) {
  using memory = apply_memory<Page>;
  const apply_batch& b = a.batch;
  const int index = static_cast<int>(blockIdx.x), dk = a.page.key_dim, dv = a.page.value_dim;
  head_entry& entry = *memory::template get<6>();  // not in registers: every thread would hold all of it
  if (threadIdx.x == 0) entry = entry_of<Columns>(b, index, dk, dv);
  device_head& stored = b.sequences[index / (b.slots * b.kv_heads)].heads[index % (b.slots * b.kv_heads)];
  writer_scratch scratch{memory::template get<0>(), most_numbers, memory::template get<1>()};
  if (a.workspace) scratch.numbers = a.workspace + static_cast<std::int64_t>(index) * a.room, scratch.room = a.room;
  const page_writer<Page> pages{a.page, scratch};
  head_writer<Page, Columns, Biased> w{
      stored, entry, pages, a.pool, memory::template get<2>(), memory::template get<5>()};
  device_head& head = w.head;
  __syncthreads();

  w.rewrite();
  const int live = head.rows() - head.dead;
  int left = w.remove();
  const int fresh = head.rows();  // row index of the first that enters
  int sinks;
  const int entered = w.enter(live, b.sinks, sinks);
  left += entry.accepted - entered;

  // A staged row that enters, as floats; `list` is the first staged row of the list.
  const auto number = [&](const device_array& staged, const float* changed, int dim, int k, int c) {
    const int j = head.position[fresh + k] - entry.length;
    if (entry.changed && entry.changed[live + j]) return changed[static_cast<std::int64_t>(live + j) * dim + c];
    return read_element(staged, staged.at(j, entry.kv_head) + c);
  };
  const auto key = [&](int k, int c) { return number(entry.staged_keys, entry.keys, dk, k, c); };
  const auto value = [&](int k, int c) { return number(entry.staged_values, entry.values, dv, k, c); };
  w.write_rows(head.sink_keys, dk, head.sinks, sinks, key);
  w.write_rows(head.sink_values, dv, head.sinks, sinks, value);
  head.sinks += sinks;

  // Rows are packed a span at a time, the window's first. Those that might have waited there are rounded alike.
  const int old = head.window, open = old + entered - sinks - b.window;
  const int pack = open > 0 ? open / Page::span * Page::span : 0, from_window = old < pack ? old : pack;
  const bool waits = b.window > 0 || Page::span > 1;
  const auto packed = [&](const half* window, int dim, const auto& of_staged, int k, int c) {
    if (k < from_window) return to_float(window[static_cast<std::int64_t>(k) * dim + c]);
    const float x = of_staged(sinks + k - from_window, c);
    return waits ? to_float(from_float<half>(x)) : x;
  };
  w.pack(
      pack, [&](int k, int c) { return packed(head.window_keys, dk, key, k, c); },
      [&](int k, int c) { return packed(head.window_values, dv, value, k, c); });
  if (from_window > 0) w.keep_both(head.window_keys, head.window_values, old, [&](int r) { return r >= from_window; });
  const int done = sinks + pack - from_window;
  w.write_rows(head.window_keys, dk, old - from_window, entered - done, [&](int k, int c) { return key(done + k, c); });
  w.write_rows(head.window_values, dv, old - from_window, entered - done,
               [&](int k, int c) { return value(done + k, c); });
  head.window = old - from_window + entered - done;
  __syncthreads();

  if (left > 0) head_compactor<Page, Columns, Biased>{w, memory::template get<3>(), memory::template get<4>()}.run(left);
  if (threadIdx.x != 0) return;
  stored.sinks = head.sinks, stored.packed = head.packed, stored.dead = head.dead, stored.window = head.window;
  if (index % (b.slots * b.kv_heads) == 0)
    if (int* to = b.sequences[index / (b.slots * b.kv_heads)].length_there) *to = entry.length + entry.accepted;
}

/// Bytes of workspace for apply_rows with `heads` heads in all.
template <class Page>
std::size_t apply_workspace(const Page& page, int heads) {
  const int room = numbers_needed(page);
  return room <= most_numbers ? 0 : sizeof(float) * static_cast<std::size_t>(room) * static_cast<std::size_t>(heads);
}

/// Changes the rows of all heads of a batch, and lengths where device_apply says where they stand.
/// Errors  cuda_error
template <class Page, int Columns, bool Biased>
void apply_rows(const Page& page, const device_pool& pool, const apply_batch& batch, void* workspace,
                cuda_stream stream) {
  static_assert(apply_memory<Page>::device_bytes <= shared_everywhere);
  const bool fits = apply_workspace(page, 1) == 0;
  launch(apply_kernel<Page, Columns, Biased>, static_cast<unsigned>(batch.heads()), apply_threads,
         apply_memory<Page>::bytes, stream,
         {page, pool, batch, fits ? nullptr : static_cast<float*>(workspace), numbers_needed(page)});
}

}  // namespace tersekv::detail
