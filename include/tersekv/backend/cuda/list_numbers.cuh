// SPDX-License-Identifier: Apache-2.0
// The list of a head as numbers: its live committed rows in order, decoded, then the accepted staged ones. For policies
// that compare keys, and for merging, which writes into it.
#pragma once
#include <tersekv/backend/cuda/apply.cuh>

namespace tersekv::detail {

template <class Page>
struct list_numbers_arguments {
  Page page;
  apply_batch batch;  // of it: sequences, shape and most_rows
  float* keys;        // [heads, most_rows, key_dim]
  float* values;      // [heads, most_rows, value_dim]
};

inline constexpr int list_numbers_threads = 256,
                     list_numbers_part = 1024;  // packed rows, and staged rows, of one block

using list_numbers_memory = shared_layout<region<int, list_numbers_threads>, region<int, most_warps>>;

/// Grid (parts, heads). The first part has sinks and window as well.
template <class Page>
__global__ void __launch_bounds__(list_numbers_threads, 4) list_numbers_kernel(const list_numbers_arguments<Page> a) {
  const apply_batch& b = a.batch;
  const int index = static_cast<int>(blockIdx.y), dk = a.page.key_dim, dv = a.page.value_dim;
  const device_apply s = b.sequences[index / (b.slots * b.kv_heads)];
  const device_head& head = s.heads[index % (b.slots * b.kv_heads)];
  const device_array staged_keys = s.keys[index / b.kv_heads % b.slots],
                     staged_values = s.values[index / b.kv_heads % b.slots];
  const int live = head.rows() - head.dead, part = static_cast<int>(blockIdx.x) * list_numbers_part;
  float* keys = a.keys + static_cast<std::int64_t>(index) * b.most_rows * dk;
  float* values = a.values + static_cast<std::int64_t>(index) * b.most_rows * dv;
  int *sources = list_numbers_memory::get<0>(), *scratch = list_numbers_memory::get<1>();

  const auto fill = [](float* to, int dim, int first, int count, const auto& number) {
    each_thread(count * dim, [&](int i) { to[static_cast<std::int64_t>(first) * dim + i] = number(i / dim, i % dim); });
  };
  const auto dense = [&](float* to, const half* from, int dim, int first, int count) {
    fill(to, dim, first, count, [&](int r, int c) { return to_float(from[static_cast<std::int64_t>(r) * dim + c]); });
  };
  if (part == 0) {
    dense(keys, head.sink_keys, dk, 0, head.sinks);
    dense(values, head.sink_values, dv, 0, head.sinks);
    dense(keys, head.window_keys, dk, live - head.window, head.window);
    dense(values, head.window_values, dv, live - head.window, head.window);
  }
  const int left = s.accepted - part, staged = left < 0 ? 0 : left < list_numbers_part ? left : list_numbers_part;
  const auto of = [&](const device_array& rows) {
    return [&, part](int j, int c) { return read_element(rows, rows.at(part + j, index % b.kv_heads) + c); };
  };
  fill(keys, dk, live + part, staged, of(staged_keys));
  fill(values, dv, live + part, staged, of(staged_values));

  const auto is_live = [&](int i) { return i < head.packed && head.position[head.sinks + i] >= 0; };
  int before = 0;  // live packed rows of earlier parts, counted by this thread
  each_thread(part < head.packed ? part : 0, [&](int i) { before += is_live(i); });
  int list = head.sinks + block_sum(before, scratch);
  for (int begin = part; begin < part + list_numbers_part && begin < head.packed; begin += list_numbers_threads) {
    const int i = begin + static_cast<int>(threadIdx.x);
    const bool mine = is_live(i);
    int count;
    const int rank = block_rank(mine, scratch, count);
    if (mine) sources[rank] = i;
    __syncthreads();
    const auto from = [&](bool value) {
      return [&, value](int k) {
        const std::byte* page = head.page[sources[k] / Page::rows];
        return tile_row{value ? a.page.values_of(page) : page, sources[k] % Page::rows};
      };
    };
    block_format<typename Page::key_format>::decode(a.page.keys, from(false), Page::rows, dk, count,
                                                    {keys + static_cast<std::int64_t>(list) * dk, dk});
    block_format<typename Page::value_format>::decode(a.page.values, from(true), Page::rows, dv, count,
                                                      {values + static_cast<std::int64_t>(list) * dv, dv});
    list += count;
  }
}

/// Writes keys, values [heads, most_rows, dim] of the lists of all heads; of `batch` nothing but the sequences, the
/// numbers of them, slots and heads, and most_rows.
/// Errors  cuda_error
template <class Page>
void list_numbers(const Page& page, const apply_batch& batch, float* keys, float* values, cuda_stream stream) {
  const dim3 grid(static_cast<unsigned>((batch.most_rows + list_numbers_part - 1) / list_numbers_part),
                  static_cast<unsigned>(batch.heads()));
  launch(list_numbers_kernel<Page>, grid, list_numbers_threads, list_numbers_memory::bytes, stream,
         {page, batch, keys, values});
}

}  // namespace tersekv::detail
