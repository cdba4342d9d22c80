// SPDX-License-Identifier: Apache-2.0
// Attention mass per row, from the weights that decode attention has left: weight * 2^(reference - log of the sum).
// Exact but for the rounding of weights to halves. A warp owns a piece of 32 rows and adds over query heads in order.
//
// Read before: decode.cuh.
#pragma once
#include <cstddef>

#include <tersekv/backend/cuda/decode_plan.hpp>
#include <tersekv/backend/cuda/fragments.cuh>

namespace tersekv::detail {

/// Where the mass of one sequence of a batch goes. Tokens from `tokens` on have no row.
struct step_mass {
  float* mass;  // [kv_heads, tokens, stride]
  std::int64_t stride;
  int tokens;
  friend bool operator==(const step_mass&, const step_mass&) = default;
};

struct mass_arguments {
  decode_plan plan;
  attend_shape shape;
  const device_query* batch;  // [sequences]
  decode_record record;
  const float* log2_sum;  // [sequences, kv_heads, query_rows]
  page_lists lists;
  batch_of<step_mass> targets;
  int pieces_of_page;
};

/// Grid: groups of 4 pieces x (KV heads * tokens) x sequences; 128 threads.
template <int = 0>
__global__ void mass_kernel(const mass_arguments a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int piece = static_cast<int>(blockIdx.x) * 4 + static_cast<int>(threadIdx.x) / 32;
  const int kv_head = static_cast<int>(blockIdx.y) % a.plan.kv_heads;
  const int token = static_cast<int>(blockIdx.y) / a.plan.kv_heads, sequence = static_cast<int>(blockIdx.z);
  const device_query& query = a.batch[sequence];
  const device_head& head = query.heads[kv_head];
  const int at_head = sequence * a.plan.kv_heads + kv_head;
  const decode_extent extent(a.plan, a.lists, query, sequence, kv_head, a.pieces_of_page);
  const step_mass target = a.targets[sequence];
  if (token >= query.n || token >= target.tokens || piece >= extent.numbers + extent.packed) return;

  int first = 0, rows = 32;  // index of the piece's first row, and its rows
  if (piece < extent.numbers) {
    const piece_place place = number_pieces{head.sinks, head.packed, head.window, query.n}.at(piece);
    first = place.index, rows = place.rows;
  } else {
    int p = piece - extent.numbers;
    if (const int* list = a.lists.of(at_head).pages)
      p = load(list + p / a.pieces_of_page) * a.pieces_of_page + p % a.pieces_of_page;
    first = head.sinks + 32 * p, rows = head.packed - 32 * p;
  }
  // Weights lie as the kernel's lanes held them: block, then lane's row.
  const int row = 8 * (lane % 8 / 2) + 2 * (lane % 2) + fragment_lane::offset(lane / 8);
  float sum = 0;
  for (int g = 0; g < a.shape.group; ++g) {
    const int r = token * a.shape.group + g;
    const std::size_t octet = a.plan.recorded(sequence, kv_head, piece, r / 8);
    const float2 pair =
        half2_unpack(load(a.record.weights + (octet * 32 + static_cast<std::size_t>(lane)) * 4 + r % 8 / 2));
    const float reference = load(a.record.references + octet * 8 + r % 8);
    const float all = load(a.log2_sum + static_cast<std::int64_t>(at_head) * a.plan.query_rows + r);
    const float weight = r % 2 == 0 ? pair.x : pair.y;
    sum += weight > 0 ? weight * exp2_fast(reference - all) : 0.0f;
  }
  if (row < rows) {
    float* to =
        target.mass + (static_cast<std::int64_t>(kv_head) * target.tokens + token) * target.stride + first + row;
    store(to, sum / static_cast<float>(a.shape.group));
  }
}

}  // namespace tersekv::detail
