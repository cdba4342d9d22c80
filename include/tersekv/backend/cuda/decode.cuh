// SPDX-License-Identifier: Apache-2.0
// Decode attention: a few queries over packed pages and the rows that are numbers, straight from their bytes.
//
// Grid: splits x (KV heads * passes of 8 N query rows) x sequences. A block's warps (4; fewer where rows are long) are
// on their own: each takes its share of the pieces of 32 rows through its own ring in shared memory, and keeps its own
// running softmax; the block adds up, and merge.cuh adds up blocks. Formats and fragments: packed_products.cuh,
// half_products.cuh.
#pragma once
#include <cstddef>
#include <cstdint>

#include <tersekv/backend/cuda/decode_block.cuh>

namespace tersekv::detail {

/// Pieces first .. last of the packed rows, each warp every so manyth of them.
template <class T>
__device__ void attend_packed(const decode_block<T>& block, int first, int last) {
  const decode_arguments& a = block.a;
  const device_head& head = block.head;
  const int lane = block.lane;
  const int* list = a.lists.of(block.sequence * a.plan.kv_heads + block.kv_head).pages;
  const bool masked = head.dead > 0 || a.shape.window > 0;
  const auto nth = [&](int k) { return first + block.warp + T::warps * k; };
  const auto piece_of = [&](int i) {
    return list == nullptr ? i : load(list + i / T::pieces_of_page) * T::pieces_of_page + i % T::pieces_of_page;
  };

  const std::byte* pages = nullptr;  // lane i: of the warp's piece i, modulo 32
  const auto fetch = [&](int k, int stage) {
    if (k % 32 == 0) {
      const int mine = nth(k + lane);
      pages = mine < last ? head.page[piece_of(mine) / T::pieces_of_page] : nullptr;
    }
    if (nth(k) < last) {
      const auto page = reinterpret_cast<const std::byte*>(
          __shfl_sync(all_lanes, reinterpret_cast<unsigned long long>(pages), k % 32));
      const int piece = piece_of(nth(k)), part = piece % T::pieces_of_page;
      std::byte* to = block.ring + stage * T::stage_bytes;
      T::key_tile::fetch(to, page, part, head.packed - 32 * piece, lane);
      T::value_tile::fetch(to + T::values_at, page + T::key_tile::page_bytes, part, head.packed - 32 * piece, lane);
      const int row = 32 * piece + lane, valid = row < head.packed ? 4 : 0;
      const int index = head.sinks + (valid > 0 ? row : 0);
      if (masked) copy_async<4>(to + T::positions_at + 4 * lane, head.position + index, valid);
      if (head.bias != nullptr) copy_async<4>(to + T::positions_at + 128 + 4 * lane, head.bias + index, valid);
    }
    copy_commit();  // an empty group keeps the count
  };

  TERSEKV_UNROLL
  for (int k = 0; k + 1 < T::stages; ++k) fetch(k, k);
  prepare_queries<8 * T::N, T::key_dim, T::threads>(block.query, a.shape, block.kv_head, block.pass, block.queries,
                                                    block.scale, block.sight, nullptr);
  const typename T::keys keys(block.queries, block.at);
  const typename T::values values(block.at);
  float scale[T::N][2];
  block.scales(scale);
  typename T::values::state state;
  state.clear();

  int stage = 0;
  for (int k = 0; nth(k) < last; ++k) {
    copy_wait<T::stages - 2>();
    __syncwarp();  // the copies of all lanes have landed, and the stage refilled next is free
    fetch(k + T::stages - 1, (stage + T::stages - 1) % T::stages);
    const std::byte* tile = block.ring + stage * T::stage_bytes;
    float s[T::N][4][2];
    keys.scores(tile, s);
    const int left = head.packed - 32 * piece_of(nth(k));
    if (head.bias != nullptr) {
      TERSEKV_UNROLL
      for (int p = 0; p < 4; ++p) {
        const int row = block.at.first_row() + fragment_lane::offset(p);
        const float bias = load_shared<float>(tile + T::positions_at + 128 + 4 * row) * log2_of_e;
        TERSEKV_UNROLL
        for (int n = 0; n < T::N; ++n) s[n][p][0] += bias / scale[n][0], s[n][p][1] += bias / scale[n][1];
      }
    }
    if (masked || left < 32) {
      TERSEKV_UNROLL
      for (int p = 0; p < 4; ++p) {
        const int row = block.at.first_row() + fragment_lane::offset(p);
        const int position = masked ? load_shared<int>(tile + T::positions_at + 4 * row) : 0;
        TERSEKV_UNROLL
        for (int n = 0; n < T::N; ++n) TERSEKV_UNROLL
        for (int h = 0; h < 2; ++h)
          if (row >= left || (masked && !block.sees(n, h, position))) s[n][p][h] = -INFINITY;
      }
    }
    values.add(tile + T::values_at, left, s, scale, state);
    if (a.record.weights != nullptr) block.record(block.numbers().count() + nth(k), s, state);
    stage = stage + 1 < T::stages ? stage + 1 : 0;
  }
  copy_wait<0>();
  __syncwarp();
  block.template leave<typename T::values>(state);
}

/// Pieces first .. last of the rows that are numbers, likewise. There is always one with index 0, as a step has a row;
/// its block looks for queries that are not finite.
template <class T>
__device__ void attend_numbers(const decode_block<T>& block, int first, int last) {
  const decode_arguments& a = block.a;
  const device_head& head = block.head;
  const int lane = block.lane;
  prepare_queries<8 * T::N, T::key_dim, T::threads>(block.query, a.shape, block.kv_head, block.pass, block.queries,
                                                    block.scale, block.sight, first == 0 ? block.query.fault : nullptr);
  const half_keys<half, T::N, T::key_dim> keys(block.queries, block.at);
  using value_products = half_values<half, T::N, T::value_dim>;
  const value_products values(block.at);
  const int length = *block.query.length;
  float scale[T::N][2];
  block.scales(scale);
  typename value_products::state state;
  state.clear();

  const number_pieces pieces = block.numbers();
  for (int i = first + block.warp; i < last; i += T::warps) {
    const piece_place place = pieces.at(i);
    std::byte* key_tile = block.ring;
    std::byte* value_tile = block.ring + (T::beside ? half_tile<T::key_dim>::bytes : 0);
    const auto fill = [&]<class Tile>(Tile, std::byte* to, const half* sinks, const half* window,
                                      const device_array& own) {
      if (place.part == row_part::own)
        Tile::convert(to, own, place.first, place.rows, block.kv_head, lane);
      else
        Tile::fetch(to, (place.part == row_part::sinks ? sinks : window) + place.first * Tile::dim, place.rows, lane);
    };
    const auto fill_values = [&] {
      fill(half_tile<T::value_dim>{}, value_tile, head.sink_values, head.window_values, block.query.values);
    };
    const auto filled = [] {
      copy_commit();
      copy_wait<0>();
      __syncwarp();
    };
    __syncwarp();  // all lanes have read the piece before
    fill(half_tile<T::key_dim>{}, key_tile, head.sink_keys, head.window_keys, block.query.keys);
    if constexpr (T::beside) fill_values();
    filled();
    float s[T::N][4][2];
    keys.scores(key_tile, s);
    TERSEKV_UNROLL
    for (int p = 0; p < 4; ++p) {
      const int row = block.at.first_row() + fragment_lane::offset(p);
      const bool there = row < place.rows, own = place.part == row_part::own;
      const int position = !there ? -1 : own ? length + place.first + row : load(head.position + place.index + row);
      const float bias = there && !own && head.bias != nullptr ? load(head.bias + place.index + row) * log2_of_e : 0.0f;
      TERSEKV_UNROLL
      for (int n = 0; n < T::N; ++n) TERSEKV_UNROLL
      for (int h = 0; h < 2; ++h) s[n][p][h] = block.sees(n, h, position) ? s[n][p][h] + bias / scale[n][h] : -INFINITY;
    }
    if constexpr (!T::beside) {
      __syncwarp();
      fill_values();
      filled();
    }
    values.add(value_tile, place.rows, s, scale, state);
    if (a.record.weights != nullptr) block.record(i, s, state);
  }
  __syncwarp();
  block.template leave<value_products>(state);
}

template <class T>
__global__ void __launch_bounds__(T::threads) decode_kernel(const decode_arguments a) {
  const device_query& query = a.batch[blockIdx.z];
  const int kv_head = static_cast<int>(blockIdx.y) % a.plan.kv_heads;
  const decode_block<T> block(a, query, kv_head, static_cast<int>(blockIdx.y) / a.plan.kv_heads);
  const decode_extent extent(a.plan, a.lists, query, block.sequence, kv_head, T::pieces_of_page);
  if (block.pass.count <= 0 || !extent.has(block.split)) return;
  if (block.split < a.plan.number_splits)
    attend_numbers<T>(block, extent.first(block.split), extent.last(block.split));
  else
    attend_packed<T>(block, extent.first(block.split), extent.last(block.split));
  __syncthreads();
  block.merge_warps();
}

}  // namespace tersekv::detail
