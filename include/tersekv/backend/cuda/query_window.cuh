// SPDX-License-Identifier: Apache-2.0
// The newest queries of a prompt, for policies that look at a window of them: kept while layers attend, and over
// chunks; at a trim their attention is taken from the rows as they stand then. Nothing of it exists in other recipes.
#pragma once
#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <tersekv/backend/cuda/prompt_mass.cuh>
#include <tersekv/backend/cuda/sequence.cuh>
#include <tersekv/commit_request.hpp>

namespace tersekv::detail {

struct copy_queries_arguments {
  device_array from, to;
  int from_row, to_row, rows, heads, dim;
};
/// Grid (rows, heads).
template <int = 0>
__global__ void copy_queries_kernel(const copy_queries_arguments a) {
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  for (int c = static_cast<int>(threadIdx.x); c < a.dim; c += static_cast<int>(blockDim.x))
    write_element(a.to, a.to.at(a.to_row + row, head) + c, read_element(a.from, a.from.at(a.from_row + row, head) + c));
}
inline void copy_queries(const copy_queries_arguments& a, cuda_stream stream) {
  if (a.rows > 0)
    launch(copy_queries_kernel<>, dim3(static_cast<unsigned>(a.rows), static_cast<unsigned>(a.heads)), 64, 0, stream,
           a);
}

template <class Core>
class query_window {
 public:
  query_window(Core& core, typename Core::workspace& work, device_sequence<Core>& sequence,
               const commit_request& request)
      : core_(core), work_(work), sequence_(sequence), request_(request), ring_(core.memory) {
    if constexpr (!Core::needs_window) return;
    first_kept_ = request.kept - kept_queries(core.query_window(), request.tokens, request.kept);
    own_ = std::max(0, std::min(request.observed - first_kept_, core.query_window()));
    older_ = std::min(sequence.ring_queries_, core.query_window() - own_);
    work.window_queries = own_ + older_;
  }

  /// Keeps the newest observed queries of a layer that has attended, unless no commit of the step could use them, in a
  /// trim or for a later one. request: all tokens accepted.
  static void take(Core& core, typename Core::workspace& work, const device_sequence<Core>& sequence, int layer,
                   const device_array& queries, const commit_request& request) {
    if constexpr (Core::needs_window) {
      const trigger when = core.evict.when;
      if (when.every == 0 && !request.more && !(when.prompt_end && request.is_prompt(sequence.in_prompt_))) return;
      const int observed = request.observed;
      const int kept = kept_queries(core.query_window(), request.tokens, observed);
      const device_array to = kept_of(core, work.queries.at_least(at(core.shape.layers) * row_size(core) * at(kept)),
                                      element::f32, layer, kept);
      copy_queries({queries, to, observed - kept, 0, kept, core.shape.query_heads, core.shape.head_dim},
                   core.backend.stream);
    }
  }

  /// Memory for what follows; may throw.
  void reserve(bool due) {
    if constexpr (Core::needs_window) {
      const trigger when = core_.evict.when;
      if (request_.more || when.every != 0)
        ring_.renew(at(core_.shape.layers) * row_size(core_) * at(work_.window_queries));
      if (due) work_.window.at_least(places().end);
    }
  }
  /// [slots, kv_heads, signal_stride] where attend() leaves what it finds.
  const float* attention() const { return Core::needs_window ? work_.window.data() + places().mass : nullptr; }

  /// Attention of the queries, summed over them and over the layers that read a slot, mean over the group.
  void attend(const slot_arrays& keys, const slot_arrays& values) {
    if constexpr (Core::needs_window) {
      const window_places p = places();
      float* memory = work_.window.data();
      fill_on_device(memory + p.mass, 0, (p.structs - p.mass) * sizeof(float), stream());
      if (work_.window_queries == 0) return;
      std::vector<int> positions(at(work_.window_queries));
      const int oldest = sequence_.ring_position_ + sequence_.ring_queries_ - older_;
      for (int i = 0; i < older_; ++i) positions[at(i)] = oldest + i;
      for (int i = 0; i < own_; ++i) positions[at(older_ + i)] = sequence_.length_ + request_.observed - own_ + i;
      int* there = reinterpret_cast<int*>(memory + p.positions);
      write_bytes(there, positions.data(), positions.size() * sizeof(int), stream());
      auto* query = reinterpret_cast<device_query*>(memory + p.structs);
      auto* window = reinterpret_cast<device_window*>(query + 1);
      const device_window about{there, request_.accepted};
      write_bytes(window, &about, sizeof about, stream());
      for (int layer = 0; layer < core_.shape.layers; ++layer) attend_layer(layer, keys, values, query, window);
    }
  }

  /// The queries that later trims may need, in the sequence's next ring.
  void keep() {
    if (ring_.size() == 0) return;
    for (int layer = 0; layer < core_.shape.layers; ++layer)
      gather(layer, kept_of(core_, ring_.data(), element::f16, layer, work_.window_queries));
  }
  void finish() noexcept {
    if constexpr (Core::needs_window) {
      sequence_.ring_queries_ = ring_.size() == 0 ? 0 : own_ + older_;
      sequence_.ring_position_ = sequence_.length_ + request_.observed - sequence_.ring_queries_;
      sequence_.ring_ = std::move(ring_);
    }
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  static std::size_t row_size(const Core& core) { return at(core.shape.query_heads) * at(core.shape.head_dim); }
  cuda_stream stream() const { return core_.backend.stream; }
  /// [queries, query_heads, key_dim] of one layer.
  static device_array kept_of(const Core& core, void* data, element type, int layer, int queries) {
    const std::size_t bytes = (type == element::f16 ? 2u : 4u) * row_size(core) * at(queries) * at(layer);
    return {static_cast<std::byte*>(data) + bytes, type, static_cast<std::int64_t>(row_size(core)),
            core.shape.head_dim};
  }

  /// In work_.window, in floats.
  struct window_places {
    std::size_t queries, sums, positions, mass, structs, end;
  };
  window_places places() const {
    const auto n = at(work_.window_queries);
    const auto even = [](std::size_t x) { return (x + 3) / 4 * 4; };
    window_places p{};
    p.sums = even(n * row_size(core_));
    p.positions = p.sums + even(n * at(core_.shape.query_heads));
    p.mass = p.positions + even(n);
    p.structs =
        p.mass + even(at(core_.plan.slots() * core_.shape.kv_heads) * at(static_cast<int>(work_.signal_stride)));
    p.end = p.structs + (sizeof(device_query) + sizeof(device_window)) / sizeof(float);
    return p;
  }

  /// Those of earlier chunks, then the step's own.
  void gather(int layer, const device_array& to) const {
    const int heads = core_.shape.query_heads, dim = core_.shape.head_dim;
    copy_queries({kept_of(core_, sequence_.ring_.data(), element::f16, layer, sequence_.ring_queries_), to,
                  sequence_.ring_queries_ - older_, 0, older_, heads, dim},
                 stream());
    const int kept = kept_queries(core_.query_window(), request_.tokens, request_.kept);
    copy_queries({kept_of(core_, work_.queries.data(), element::f32, layer, kept), to,
                  request_.observed - own_ - first_kept_, older_, own_, heads, dim},
                 stream());
  }

  void attend_layer(int layer, const slot_arrays& keys, const slot_arrays& values, device_query* query,
                    const device_window* window) {
    const window_places p = places();
    float* memory = work_.window.data();
    const int slot = core_.plan.slot(layer), kv_heads = core_.shape.kv_heads, n = work_.window_queries;
    const device_array queries = kept_of(core_, memory, element::f32, 0, n);
    gather(layer, queries);
    const device_query about{sequence_.heads_.data() + slot * kv_heads,
                             queries,
                             {},
                             memory + p.sums,
                             keys[slot],
                             values[slot],
                             sequence_.length_there_.data(),
                             n};
    write_bytes(query, &about, sizeof about, stream());
    const attend_shape shape{kv_heads, core_.shape.group(), core_.shape.scale, core_.plan.window(layer),
                             core_.plan.sees_self(layer)};
    float* mass = memory + p.mass + at(slot * kv_heads) * at(static_cast<int>(work_.signal_stride));
    prompt_attention(core_.format, shape, query, 1, n, window, stream());
    prompt_mass(core_.format, shape, query, 1, n, sequence_.rows_most_, window, {}, n, mass, 1, work_.signal_stride,
                stream());
  }

  Core& core_;
  typename Core::workspace& work_;
  device_sequence<Core>& sequence_;
  const commit_request request_;
  device_buffer<half> ring_;
  int first_kept_ = 0, own_ = 0, older_ = 0;
};

}  // namespace tersekv::detail
