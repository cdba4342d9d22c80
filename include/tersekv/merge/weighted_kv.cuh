// SPDX-License-Identifier: Apache-2.0
// weighted_kv on the device: one warp for every row that takes others in, leavers in order.
#pragma once
#include <tersekv/backend/cuda/fold.cuh>
#include <tersekv/merge/weighted_kv.hpp>

namespace tersekv {

namespace detail {

/// The first of list[0 ... n - 1], ascending, that is above `row`.
__device__ inline int first_above(const int* list, int n, int row) {
  int low = 0;
  while (low < n) {
    const int middle = (low + n) / 2;
    if (list[middle] > row)
      n = middle;
    else
      low = middle + 1;
  }
  return low;
}

template <class Merge>
__global__ void weighted_kv_kernel(fold_arguments<Merge> a) {
  const head_place at(a.shape);
  const std::int64_t base = a.first(at.index);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int k = static_cast<int>(blockIdx.x * taking_warps + threadIdx.x / 32), gives = a.gives[at.index];
  if (k >= a.takes[at.index]) return;  // the whole warp
  const int c = a.to[base + k];
  const auto columns_of = [&](int row) { return a.state(at, a.lists.source[base + row], a.columns) + a.first_column; };
  float* stored = columns_of(c);
  float mine[2] = {stored[0], stored[1]};
  __syncwarp();  // all have read before one writes
  float bias = a.bias ? a.bias[base + c] : 0.0f;
  bool changed = false;
  float* value = a.value(base + c);
  int f = first_above(a.from + base, gives, k > 0 ? a.to[base + k - 1] : -1);
  const int met = f;
  for (; f < gives && a.from[base + f] < c; ++f) {
    const int e = a.from[base + f];
    const float part = Merge::take(mine, columns_of(e));
    if (!(part > 0)) continue;
    const float* other = a.value(base + e);
    for (int i = lane; i < a.shape.value_dim; i += 32) value[i] += part * (other[i] - value[i]);
    bias = joint_mass(a, bias, base + e);
    changed = true;
  }
  if (lane != 0 || f == met) return;
  stored[0] = mine[0];
  stored[1] = mine[1];
  if (changed) a.changed[base + c] = 1;
  if (a.bias) a.bias[base + c] = bias;
}

}  // namespace detail

struct weighted_kv_on_device {
  TERSEKV_HD static bool into_recent(const weighted_kv&) { return true; }
  TERSEKV_HD static bool guarded(const weighted_kv&) { return false; }
  template <class Merge>
  static void fold(const detail::fold_arguments<Merge>& a, cuda_stream stream) {
    detail::launch(detail::weighted_kv_kernel<Merge>, detail::grid_of_takers(a.shape), 32 * detail::taking_warps, 0,
                   stream, a);
  }
};

}  // namespace tersekv
