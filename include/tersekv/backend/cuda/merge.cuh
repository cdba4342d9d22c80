// SPDX-License-Identifier: Apache-2.0
// Adds up what the splits of a head have left, in order of index, and divides.
//
// A kernel of its own: a last block that merges would do alone what here all SMs do, and would need counters that start
// at zero.
#pragma once
#include <cstddef>

#include <tersekv/backend/cuda/decode_plan.hpp>
#include <tersekv/backend/cuda/elements.cuh>

namespace tersekv::detail {

struct merge_arguments {
  decode_plan plan;
  attend_shape shape;
  const device_query* batch;  // [sequences]
  const float* out;           // [parts, value_dim]
  const float2* sums;         // [parts] reference (base 2), sum
  float* log2_sum;            // [sequences, kv_heads, query_rows]; null = not wanted
  page_lists lists;
  int value_dim, pieces_of_page;
};

/// Grid: query rows x KV heads x sequences.
template <int = 0>
__global__ void merge_kernel(const merge_arguments a) {
  const int row = static_cast<int>(blockIdx.x), kv_head = static_cast<int>(blockIdx.y);
  const int sequence = static_cast<int>(blockIdx.z);
  const device_query& query = a.batch[sequence];
  if (row >= query.n * a.shape.group) return;
  const decode_extent extent(a.plan, a.lists, query, sequence, kv_head, a.pieces_of_page);

  float reference = -1e30f, sum = 0;
  for (int s = 0; s < a.plan.splits(); ++s)
    if (extent.has(s)) {
      const float x = load(a.sums + a.plan.part(sequence, kv_head, s, row)).x;
      reference = x > reference ? x : reference;
    }
  for (int s = 0; s < a.plan.splits(); ++s)
    if (extent.has(s)) {
      const float2 one = load(a.sums + a.plan.part(sequence, kv_head, s, row));
      sum += exp2_fast(one.x - reference) * one.y;
    }

  const int token = row / a.shape.group, head = kv_head * a.shape.group + row % a.shape.group;
  const float inverse = sum > 0 ? 1 / sum : 0.0f;
  for (int c = static_cast<int>(threadIdx.x); c < a.value_dim; c += static_cast<int>(blockDim.x)) {
    float out = 0;
    for (int s = 0; s < a.plan.splits(); ++s)
      if (extent.has(s)) {
        const std::size_t part = a.plan.part(sequence, kv_head, s, row);
        out += exp2_fast(load(a.sums + part).x - reference) *
               load(a.out + part * static_cast<std::size_t>(a.value_dim) + static_cast<std::size_t>(c));
      }
    write_element(query.out, query.out.at(token, head) + c, out * inverse);
  }
  if (threadIdx.x == 0) {
    const float log2_sum = sum > 0 ? reference + log2f(sum) : -INFINITY;
    if (query.log_sum_exp != nullptr)
      store(query.log_sum_exp + token * a.plan.kv_heads * a.shape.group + head, log2_sum * log_of_2);
    if (a.log2_sum != nullptr)
      store(a.log2_sum + (static_cast<std::int64_t>(sequence) * a.plan.kv_heads + kv_head) * a.plan.query_rows + row,
            log2_sum);
  }
}

}  // namespace tersekv::detail
