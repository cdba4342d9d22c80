// SPDX-License-Identifier: Apache-2.0
// The rows of an engine, copied to where they wait for the commit. Numbers that are not finite are noticed on the way.
#pragma once
#include <cstddef>
#include <cstdint>

#include <tersekv/backend/cuda/codes.cuh>
#include <tersekv/backend/cuda/faults.cuh>
#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

struct rows_to_stage {
  device_array from, to;  // [n, heads, dim]; without `to.data` rows are only looked at
  friend bool operator==(const rows_to_stage&, const rows_to_stage&) = default;
};
/// Keys and values, or one of them, of one step of a batch.
struct step_to_stage {
  rows_to_stage first, second;
  int n;
  int* faults;  // of both arrays: token * heads + head of the first row that is not finite, unless it is less already;
                // null = nobody asks
  friend bool operator==(const step_to_stage&, const step_to_stage&) = default;
};
/// What is common to a batch.
struct stage_shape {
  int sequences, most_tokens, heads;
  int first_dim, second_dim;  // 0 = there is no second array
  element type;               // of all
};

template <class Bits>
struct stage_arguments {
  batch_of<step_to_stage> batch;
  stage_shape shape;
  Bits infinity;  // exponent bits
};

/// One warp per (token, head). Grid (rows, arrays, sequences).
template <class Bits>
__global__ void stage_kernel(const stage_arguments<Bits> a) {
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  const step_to_stage step = a.batch[static_cast<int>(blockIdx.z)];
  if (row >= step.n * a.shape.heads) return;
  const int token = row / a.shape.heads, head = row % a.shape.heads;
  const bool second = blockIdx.y != 0;
  const rows_to_stage x = second ? step.second : step.first;
  const int dim = second ? a.shape.second_dim : a.shape.first_dim;
  const Bits* from = static_cast<const Bits*>(x.from.data) + x.from.at(token, head);
  Bits* to = x.to.data ? static_cast<Bits*>(x.to.data) + x.to.at(token, head) : nullptr;
  bool finite = true;
  for (int c = lane_id(); c < dim; c += 32) {
    const Bits bits = load(from + c);
    if (to) store(to + c, bits);
    finite = finite && (bits & a.infinity) != a.infinity;
  }
  if (step.faults != nullptr && !__all_sync(all_lanes, finite) && lane_id() == 0)
    atomicMin(step.faults + blockIdx.y, row);
}

/// Copies the rows of all steps of a batch.
/// Errors  cuda_error
inline void stage_rows(const stage_shape& shape, const batch_of<step_to_stage>& batch, cuda_stream stream) {
  if (shape.most_tokens == 0) return;
  constexpr unsigned threads = 256, warps = threads / 32;
  const unsigned rows = static_cast<unsigned>(shape.most_tokens) * static_cast<unsigned>(shape.heads);
  const dim3 grid((rows + warps - 1) / warps, shape.second_dim > 0 ? 2u : 1u, static_cast<unsigned>(shape.sequences));
  if (shape.type == element::f32)
    launch(stage_kernel<std::uint32_t>, grid, threads, 0, stream, {batch, shape, 0x7f800000u});
  else
    launch(stage_kernel<std::uint16_t>, grid, threads, 0, stream,
           {batch, shape, static_cast<std::uint16_t>(shape.type == element::f16 ? 0x7c00u : 0x7f80u)});
}

}  // namespace tersekv::detail
