// SPDX-License-Identifier: Apache-2.0
// The rows of an engine, copied to where they wait for the commit. Numbers that are not finite are noticed on the way.
#pragma once
#include <cstddef>
#include <cstdint>

#include <tersekv/backend/cuda/codes.cuh>
#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

/// What a word of faults holds while every row is finite; memset with bytes of 0x7f writes it.
inline constexpr int no_fault = 0x7f7f7f7f;

template <class Bits>
struct stage_arguments {
  struct array {
    const Bits* from;                                   // [n, heads, dim]
    Bits* to;                                           // likewise; null = only looked at
    std::int64_t from_row, from_head, to_row, to_head;  // strides
    int dim;
  };
  array arrays[2];
  int n, heads;
  unsigned infinity;  // exponent bits
  int* faults;        // of each array
};

/// One warp per (token, head). Grid (rows, arrays).
template <class Bits>
__global__ void stage_kernel(stage_arguments<Bits> a) {
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  if (row >= a.n * a.heads) return;
  const typename stage_arguments<Bits>::array x = a.arrays[blockIdx.y];
  const int token = row / a.heads, head = row % a.heads;
  const Bits* from = x.from + token * x.from_row + head * x.from_head;
  Bits* to = x.to ? x.to + token * x.to_row + head * x.to_head : nullptr;
  bool finite = true;
  for (int c = lane_id(); c < x.dim; c += 32) {
    const Bits bits = load(from + c);
    if (to) store(to + c, bits);
    finite = finite && (bits & a.infinity) != a.infinity;
  }
  if (!__all_sync(all_lanes, finite) && lane_id() == 0) atomicMin(a.faults + blockIdx.y, row);
}

struct rows_to_stage {
  device_array from, to;
  int dim;
};
/// Copies n rows of `heads` heads of one array, or of two in one launch; all elements are of one type; without
/// `to.data` nothing is copied. faults[i] becomes token * heads + head of the first row of array i with a number that
/// is not finite, unless it is smaller already. Errors  cuda_error
template <std::size_t Count>
void stage_rows(const rows_to_stage (&arrays)[Count], int n, int heads, int* faults, cuda_stream stream) {
  static_assert(Count <= 2);
  if (n == 0) return;
  constexpr unsigned threads = 256, warps = threads / 32;
  const unsigned blocks = (static_cast<unsigned>(n) * static_cast<unsigned>(heads) + warps - 1) / warps;
  const auto start = [&]<class Bits>(Bits infinity) {
    stage_arguments<Bits> a{{}, n, heads, infinity, faults};
    for (std::size_t i = 0; i < Count; ++i) {
      const auto& [from, to, dim] = arrays[i];
      a.arrays[i] = {static_cast<const Bits*>(from.data),
                     static_cast<Bits*>(to.data),
                     from.row_stride,
                     from.head_stride,
                     to.row_stride,
                     to.head_stride,
                     dim};
    }
    launch(stage_kernel<Bits>, dim3(blocks, Count), threads, 0, stream, a);
  };
  const element type = arrays[0].from.type;
  if (type == element::f32)
    start(std::uint32_t{0x7f800000u});
  else
    start(static_cast<std::uint16_t>(type == element::f16 ? 0x7c00u : 0x7f80u));
}

}  // namespace tersekv::detail
