// SPDX-License-Identifier: Apache-2.0
// d2o on the device: lengths of keys, the most similar survivor of every leaver (tiles of 64 x 64 cosines), the
// threshold, and one warp for every survivor that folds its leavers in order.
#pragma once
#include <tersekv/backend/cuda/fold.cuh>
#include <tersekv/merge/d2o.hpp>

namespace tersekv {

namespace detail {

/// One warp per row of the list.
template <class Merge>
__global__ void key_norm_kernel(fold_arguments<Merge> a) {
  const head_place at(a.shape);
  const int j = static_cast<int>(blockIdx.x * taking_warps + threadIdx.x / 32);
  if (j >= a.lists.rows[at.index] || a.takes[at.index] == 0) return;  // the whole warp
  const std::int64_t row = a.first(at.index) + j;
  double squares = 0;
  for (int c = static_cast<int>(threadIdx.x % 32); c < a.shape.key_dim; c += 32)
    squares += static_cast<double>(a.key(row)[c]) * static_cast<double>(a.key(row)[c]);
  squares = warp_reduce(squares, [](double x, double y) { return x + y; });
  if (threadIdx.x % 32 == 0) a.norm[row] = static_cast<float>(sqrt(squares));
}

inline constexpr int cosine_tile = 64, cosine_channels = 16, cosine_stride = cosine_tile + 2;
using cosine_layout =
    shared_layout<region<float, cosine_channels * cosine_stride>, region<float, cosine_channels * cosine_stride>>;

/// Unit keys of rows first ... of a list of rows, channels c0 ...: tile[channel][row]; zeros beyond. 256 threads.
template <class Merge>
__device__ void load_unit_keys(const fold_arguments<Merge>& a, std::int64_t base, const int* list, int first, int count,
                               int c0, float* tile) {
  const int row = static_cast<int>(threadIdx.x) / 4, channel = static_cast<int>(threadIdx.x) % 4 * 4;
  const bool exists = first + row < count;
  const std::int64_t j = base + (exists ? list[first + row] : 0);
  const float length = exists ? a.norm[j] : 0.0f;
  TERSEKV_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int c = c0 + channel + i;
    tile[(channel + i) * cosine_stride + row] = length > 0 && c < a.shape.key_dim ? a.key(j)[c] / length : 0.0f;
  }
}

/// Thread (y, x) of 16 x 16 works on leavers y + 16 i and survivors x + 16 j.
/// Shapes  grid (most_rows / 64, heads, sequences), 256 threads
template <class Merge>
__global__ void nearest_kernel(fold_arguments<Merge> a) {
  float *leaving = cosine_layout::get<0>(), *staying = cosine_layout::get<1>();
  const head_place at(a.shape);
  const std::int64_t base = a.first(at.index);
  const int *from = a.from + base, *to = a.to + base;
  const int gives = a.gives[at.index], takes = a.takes[at.index], first = static_cast<int>(blockIdx.x) * cosine_tile;
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  if (first >= gives) return;  // the whole block
  float best[4];
  int found[4];
  TERSEKV_UNROLL
  for (int i = 0; i < 4; ++i) best[i] = -2, found[i] = 0;
  for (int other = 0; other < takes; other += cosine_tile) {
    float cosine[4][4] = {};
    for (int c0 = 0; c0 < a.shape.key_dim; c0 += cosine_channels) {
      __syncthreads();
      load_unit_keys(a, base, from, first, gives, c0, leaving);
      load_unit_keys(a, base, to, other, takes, c0, staying);
      __syncthreads();
      for (int c = 0; c < cosine_channels; ++c) {
        float u[4], v[4];
        TERSEKV_UNROLL
        for (int i = 0; i < 4; ++i) {
          u[i] = leaving[c * cosine_stride + y + 16 * i];
          v[i] = staying[c * cosine_stride + x + 16 * i];
        }
        TERSEKV_UNROLL
        for (int i = 0; i < 4; ++i) {
          TERSEKV_UNROLL
          for (int j = 0; j < 4; ++j) cosine[i][j] += u[i] * v[j];
        }
      }
    }
    TERSEKV_UNROLL
    for (int i = 0; i < 4; ++i) {
      TERSEKV_UNROLL
      for (int j = 0; j < 4; ++j)
        if (other + x + 16 * j < takes && cosine[i][j] >= best[i]) {  // ties go to the newer row
          best[i] = cosine[i][j];
          found[i] = other + x + 16 * j;
        }
    }
  }
  TERSEKV_UNROLL
  for (int i = 0; i < 4; ++i) {
    for (int bit = 8; bit > 0; bit /= 2) {
      const float rival = __shfl_xor_sync(all_lanes, best[i], bit);
      const int row = __shfl_xor_sync(all_lanes, found[i], bit);
      if (rival > best[i] || (rival == best[i] && row > found[i])) best[i] = rival, found[i] = row;
    }
    const int leaver = first + y + 16 * i;
    if (x == 0 && leaver < gives) {
      a.nearest[base + leaver] = to[found[i]];
      a.cosine[base + leaver] = best[i];
    }
  }
}

using threshold_layout = shared_layout<region<double, most_warps>>;

/// One block per head.
template <class Merge>
__global__ void threshold_kernel(fold_arguments<Merge> a) {
  const head_place at(a.shape);
  const int gives = a.gives[at.index];
  if (gives == 0) return;  // the whole block
  double sum = 0;
  for (int f = static_cast<int>(threadIdx.x); f < gives; f += static_cast<int>(blockDim.x))
    sum += static_cast<double>(a.cosine[a.first(at.index) + f]);
  sum = block_sum(sum, threshold_layout::get<0>());
  if (threadIdx.x == 0) a.merge.learn(a.states[at.sequence][at.of_sequence(a.shape)], static_cast<float>(sum / gives));
}

/// One warp per survivor.
template <class Merge>
__global__ void d2o_kernel(fold_arguments<Merge> a) {
  const head_place at(a.shape);
  const std::int64_t base = a.first(at.index);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int k = static_cast<int>(blockIdx.x * taking_warps + threadIdx.x / 32), gives = a.gives[at.index];
  if (k >= a.takes[at.index]) return;  // the whole warp
  const int c = a.to[base + k];
  const auto state = a.states[at.sequence][at.of_sequence(a.shape)];
  float total = a.merge.self(), bias = a.bias ? a.bias[base + c] : 0.0f;
  bool changed = false;
  for (int first = 0; first < gives; first += 32) {
    const std::int64_t f = base + first + lane;
    const bool folds = first + lane < gives && a.nearest[f] == c && a.merge.reaches(a.cosine[f], state);
    for (unsigned left = __ballot_sync(all_lanes, folds); left != 0; left &= left - 1) {
      const int which = first + __ffs(static_cast<int>(left)) - 1;
      const std::int64_t e = base + a.from[base + which];
      const float mine = a.merge.weight_of(a.cosine[base + which]), grown = total + a.merge.counted(mine);
      const auto mix = [&](float* x, const float* other, int dim) {
        for (int i = lane; i < dim; i += 32) x[i] = total / grown * x[i] + mine / grown * other[i];
      };
      mix(a.key(base + c), a.key(e), a.shape.key_dim);
      mix(a.value(base + c), a.value(e), a.shape.value_dim);
      total = grown;
      bias = joint_mass(a, bias, e);
      changed = true;
    }
  }
  if (lane != 0 || !changed) return;
  a.changed[base + c] = 1;
  if (a.bias) a.bias[base + c] = bias;
}

}  // namespace detail

struct d2o_on_device {
  TERSEKV_HD static bool into_recent(const d2o& merge) { return merge.into_recent; }
  TERSEKV_HD static bool guarded(const d2o& merge) { return merge.guarded; }
  template <class Merge>
  static void fold(const detail::fold_arguments<Merge>& a, cuda_stream stream) {
    using namespace detail;
    const dim3 warps = grid_of_takers(a.shape);
    dim3 tiles = warps;
    tiles.x = static_cast<unsigned>((a.shape.most_rows + cosine_tile - 1) / cosine_tile);
    launch(key_norm_kernel<Merge>, warps, 32 * taking_warps, 0, stream, a);
    launch(nearest_kernel<Merge>, tiles, 256, cosine_layout::bytes, stream, a);
    launch(threshold_kernel<Merge>, a.grid(), a.shape.threads, threshold_layout::bytes, stream, a);
    launch(d2o_kernel<Merge>, warps, 32 * taking_warps, 0, stream, a);
  }
};

}  // namespace tersekv
