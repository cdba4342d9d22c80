// SPDX-License-Identifier: Apache-2.0
// The rows of an engine, copied to where they wait for the commit. Numbers that are not finite are noticed on the way.
#pragma once
#include <tersekv/backend/cuda/codes.cuh>
#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

/// What a word of faults holds while every row is finite; memset with bytes of 0x7f writes it.
inline constexpr int no_fault = 0x7f7f7f7f;

template <class Bits>
struct stage_arguments {
  const Bits* from;                                   // [n, heads, dim]
  Bits* to;                                           // likewise; null = only looked at
  std::int64_t from_row, from_head, to_row, to_head;  // strides
  int n, heads, dim;
  unsigned infinity;  // exponent bits
  int* fault;
};

/// One warp per (token, head).
template <class Bits>
__global__ void stage_kernel(stage_arguments<Bits> a) {
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  if (row >= a.n * a.heads) return;
  const int token = row / a.heads, head = row % a.heads;
  const Bits* from = a.from + token * a.from_row + head * a.from_head;
  Bits* to = a.to ? a.to + token * a.to_row + head * a.to_head : nullptr;
  bool finite = true;
  for (int c = lane_id(); c < a.dim; c += 32) {
    const Bits x = load(from + c);
    if (to) store(to + c, x);
    finite = finite && (x & a.infinity) != a.infinity;
  }
  if (!__all_sync(all_lanes, finite) && lane_id() == 0) atomicMin(a.fault, row);
}

/// Copies n rows of `heads` heads; elements of both are of one type; without `to.data` nothing is copied. *fault
/// becomes token * heads + head of the first row with a number that is not finite, unless it is smaller already. Errors
/// cuda_error
inline void stage_rows(const device_array& from, const device_array& to, int n, int heads, int dim, int* fault,
                       cuda_stream stream) {
  if (n == 0) return;
  constexpr unsigned threads = 256, warps = threads / 32;
  const unsigned blocks = (static_cast<unsigned>(n) * static_cast<unsigned>(heads) + warps - 1) / warps;
  const auto start = [&]<class Bits>(Bits infinity) {
    launch(stage_kernel<Bits>, blocks, threads, 0, stream,
           {static_cast<const Bits*>(from.data), static_cast<Bits*>(to.data), from.row_stride, from.head_stride,
            to.row_stride, to.head_stride, n, heads, dim, infinity, fault});
  };
  if (from.type == element::f32)
    start(std::uint32_t{0x7f800000u});
  else
    start(static_cast<std::uint16_t>(from.type == element::f16 ? 0x7c00u : 0x7f80u));
}

}  // namespace tersekv::detail
