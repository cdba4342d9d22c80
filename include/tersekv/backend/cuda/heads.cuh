// SPDX-License-Identifier: Apache-2.0
// The arrays of a sequence's heads: one piece of device memory, cut alike for every head, and the kernel that moves all
// heads into a new piece when rows outgrow the old one or when a sequence is forked.
#pragma once
#include <cstddef>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/backend/cuda/memory.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

/// Room of one head, and where its arrays begin in its part of the piece.
struct head_room {
  int rows, sinks, window;  // at most: sinks | packed | window together; of the full-precision parts
  int page_rows, columns, key_dim, value_dim;
  bool biased;

  TERSEKV_HD int pages() const { return (rows + page_rows - 1) / page_rows + 1; }
  TERSEKV_HD std::size_t position_at() const { return rounded(sizeof(std::byte*) * size(pages())); }
  TERSEKV_HD std::size_t state_at() const { return position_at() + rounded(4 * size(rows)); }
  TERSEKV_HD std::size_t bias_at() const { return state_at() + rounded(4 * size(rows) * size(columns)); }
  TERSEKV_HD std::size_t sinks_at() const { return bias_at() + (biased ? rounded(4 * size(rows)) : 0); }
  TERSEKV_HD std::size_t window_at() const { return sinks_at() + numbers(sinks); }
  TERSEKV_HD std::size_t bytes() const { return window_at() + numbers(window); }
  TERSEKV_HD std::size_t numbers(int n) const {
    return rounded(2 * size(n) * size(key_dim)) + rounded(2 * size(n) * size(value_dim));
  }
  /// An empty head whose arrays lie behind `at`.
  TERSEKV_HD device_head place(std::byte* at) const {
    device_head h{};
    h.page = reinterpret_cast<std::byte**>(at);
    h.position = reinterpret_cast<int*>(at + position_at());
    h.state = reinterpret_cast<float*>(at + state_at());
    h.bias = biased ? reinterpret_cast<float*>(at + bias_at()) : nullptr;
    h.sink_keys = reinterpret_cast<half*>(at + sinks_at());
    h.sink_values = reinterpret_cast<half*>(at + sinks_at() + rounded(2 * size(sinks) * size(key_dim)));
    h.window_keys = reinterpret_cast<half*>(at + window_at());
    h.window_values = reinterpret_cast<half*>(at + window_at() + rounded(2 * size(window) * size(key_dim)));
    return h;
  }

 private:
  TERSEKV_HD static std::size_t size(int n) { return static_cast<std::size_t>(n); }
  TERSEKV_HD static std::size_t rounded(std::size_t n) { return (n + 15) / 16 * 16; }
};

struct place_arguments {
  device_head* to;          // [heads]
  const device_head* from;  // [heads] copied; null = empty heads
  std::byte* piece;         // [heads, room.bytes()]
  head_room room;
};

inline constexpr int place_threads = 128;

/// One block per head. `from` may be `to`.
template <int = 0>
__global__ void place_heads(const place_arguments a) {
  const device_head h = a.from ? a.from[blockIdx.x] : device_head{};
  device_head n = a.room.place(a.piece + blockIdx.x * a.room.bytes());
  __syncthreads();  // before the first thread writes to[]
  const auto copy = [](auto* to, const auto* from, int count) {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += place_threads) to[i] = from[i];
  };
  n.sinks = h.sinks, n.packed = h.packed, n.dead = h.dead, n.window = h.window;
  copy(n.page, h.page, (h.packed + a.room.page_rows - 1) / a.room.page_rows);
  copy(n.position, h.position, h.rows());
  copy(n.state, h.state, h.rows() * a.room.columns);
  if (a.room.biased) copy(n.bias, h.bias, h.rows());
  copy(n.sink_keys, h.sink_keys, h.sinks * a.room.key_dim);
  copy(n.sink_values, h.sink_values, h.sinks * a.room.value_dim);
  copy(n.window_keys, h.window_keys, h.window * a.room.key_dim);
  copy(n.window_values, h.window_values, h.window * a.room.value_dim);
  if (threadIdx.x == 0) a.to[blockIdx.x] = n;
}

}  // namespace tersekv::detail
