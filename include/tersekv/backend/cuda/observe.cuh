// SPDX-License-Identifier: Apache-2.0
// The policies' columns after a step: old rows observe its attention, staged rows get their first state.
#pragma once
#include <type_traits>

#include <tersekv/backend/cuda/commit.hpp>
#include <tersekv/backend/cuda/device_form.hpp>
#include <tersekv/backend/cuda/elements.cuh>
#include <tersekv/backend/cuda/launch.cuh>

namespace tersekv::detail {

/// The head that a block of grid (any, slots * kv_heads, sequences) works on.
struct head_place {
  int sequence, slot, kv_head;  // slot: counted from commit_shape::first_slot
  int index;                    // in row_lists
  __device__ explicit head_place(const commit_shape& s)
      : sequence(static_cast<int>(blockIdx.z)), slot(static_cast<int>(blockIdx.y) / s.kv_heads),
        kv_head(static_cast<int>(blockIdx.y) % s.kv_heads), index((sequence * s.slots + slot) * s.kv_heads + kv_head) {}
  /// Of this head in device_commit.
  __device__ int of_sequence(const commit_shape& s) const { return slot * s.kv_heads + kv_head; }
};

/// Signal rows first ... last of row index i, summed over the layers that read the slot.
__device__ inline float signal(const device_commit& c, const commit_shape& s, const head_place& at, int i, int first,
                               int last) {
  float sum = 0;
  for (int layer = 0; layer < s.layers; ++layer) {
    if (s.slot_of_layer[layer] != s.first_slot + at.slot) continue;
    const float* row = c.mass + (layer * s.kv_heads + at.kv_head) * c.signal_rows * c.signal_stride + i;
    for (int r = first; r < last; ++r) sum += row[r * c.signal_stride];
  }
  return sum;
}

/// A staged key, as policies look at it.
struct staged_key {
  const device_array& keys;
  std::int64_t first;
  __device__ float operator[](int c) const { return read_element(keys, first + c); }
};

template <class Evict, class Merge>
struct observe_arguments {
  Evict evict;
  Merge merge;
  batch_of<device_commit> batch;
  commit_shape shape;
  row_lists lists;
};

template <class Evict, class Merge>
__global__ void observe_kernel(observe_arguments<Evict, Merge> a) {
  constexpr int columns = Evict::columns + Merge::columns;
  const head_place at(a.shape);
  const device_commit c = a.batch[at.sequence];
  const device_head& head = c.heads[at.of_sequence(a.shape)];
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), committed = head.rows(), j = i - committed;
  if (i >= committed + c.accepted || (j < 0 && head.position[i] < 0)) return;
  float* state =
      j < 0 ? head.state + static_cast<std::int64_t>(i) * columns
            : a.lists.staged_state + (static_cast<std::int64_t>(at.index) * a.shape.most_accepted + j) * columns;
  observation o{0, j < 0 ? c.observed : (c.observed > j ? c.observed - j : 0)};
  if constexpr (states_need<fact::attention_mass, Evict> || states_need<fact::attention_mass, Merge>)
    o.mass = signal(c, a.shape, at, i, 0, c.signal_rows == c.tokens ? c.observed : 1);
  const auto update = [&](const auto& policy, float* mine) {
    if constexpr (inserts_rows<std::remove_cvref_t<decltype(policy)>>)
      if (j >= 0) {
        const device_array keys = c.keys[at.slot];
        policy.insert(mine, staged_key{keys, keys.at(j, at.kv_head)}, a.shape.key_dim);
      }
    if constexpr (requires { policy.observe(mine, o); }) policy.observe(mine, o);
  };
  for (int n = 0; n < columns && j >= 0; ++n) state[n] = 0;
  update(a.evict, state);
  update(a.merge, state + Evict::columns);
}

/// Brings device_head::state up to date and fills row_lists::staged_state; nothing where no policy has columns.
template <class Evict, class Merge>
void observe_rows(const Evict& evict, const Merge& merge, const batch_of<device_commit>& batch,
                  const commit_shape& shape, const row_lists& lists, cuda_stream stream) {
  if constexpr (Evict::columns + Merge::columns > 0) {
    constexpr unsigned threads = 256;
    const dim3 grid((static_cast<unsigned>(shape.most_rows) + threads - 1) / threads,
                    static_cast<unsigned>(shape.slots * shape.kv_heads), static_cast<unsigned>(shape.sequences));
    launch(observe_kernel<Evict, Merge>, grid, threads, 0, stream, {evict, merge, batch, shape, lists});
  }
}

}  // namespace tersekv::detail
