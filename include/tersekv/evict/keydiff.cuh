// SPDX-License-Identifier: Apache-2.0
// keydiff on the device: one block per head, one thread per channel of the anchor, one warp per row's cosine.
#pragma once
#include <tersekv/backend/cuda/select.cuh>
#include <tersekv/evict/keydiff.hpp>

namespace tersekv {

namespace detail {

struct keydiff_layout {
  static constexpr int tile = 64, largest_dim = 1024;
  using regions = shared_layout<region<double, largest_dim>, region<double, tile>, region<double, most_warps>>;
};

/// Sum over the warp's lanes of f(channel).
template <class F>
__device__ double warp_dot(int dim, F&& f) {
  double sum = 0;
  for (int c = static_cast<int>(threadIdx.x % 32); c < dim; c += 32) sum += f(c);
  return warp_reduce(sum, [](double a, double b) { return a + b; });
}

template <class Evict>
__global__ void keydiff_kernel(list_arguments<Evict> a) {
  using layout = keydiff_layout::regions;
  double *anchor = layout::get<0>(), *norm = layout::get<1>(), *scratch = layout::get<2>();
  const head_place at(a.shape);
  const row_signals s = a.signals(at);
  const int dim = s.key_dim, thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int warp = thread / 32, warps = threads / 32;
  const auto number = [&](int j, int c) { return static_cast<double>(s.keys[static_cast<std::int64_t>(j) * dim + c]); };
  const auto norm_of = [&](int j) { return sqrt(warp_dot(dim, [&](int c) { return number(j, c) * number(j, c); })); };

  for (int c = thread; c < dim; c += threads) anchor[c] = 0;  // the sum of unit keys: only its direction counts
  for (int first = 0; first < s.n; first += keydiff_layout::tile) {
    const int rows = s.n - first < keydiff_layout::tile ? s.n - first : keydiff_layout::tile;
    for (int r = warp; r < rows; r += warps) {
      const double length = norm_of(first + r);
      if (thread % 32 == 0) norm[r] = length;
    }
    __syncthreads();
    for (int c = thread; c < dim; c += threads) {
      double sum = anchor[c];
      for (int r = 0; r < rows; ++r)
        if (norm[r] > 0) sum += number(first + r, c) / norm[r];
      anchor[c] = sum;
    }
    __syncthreads();
  }
  double squares = 0;
  for (int c = thread; c < dim; c += threads) squares += anchor[c] * anchor[c];
  const double length = sqrt(block_sum(squares, scratch));
  for (int j = warp; j < s.n; j += warps) {
    const double norms = norm_of(j) * length;
    const double dot = warp_dot(dim, [&](int c) { return number(j, c) * anchor[c]; });
    if (thread % 32 == 0) a.lists.score[a.first(at.index) + j] = norms > 0 ? static_cast<float>(-dot / norms) : 0.0f;
  }
}

}  // namespace detail

struct keydiff_on_device {
  /// Fills row_lists::score from row_lists::keys.
  template <class Evict>
  static void score(const detail::list_arguments<Evict>& list, cuda_stream stream) {
    detail::launch(detail::keydiff_kernel<Evict>, list.grid(), list.shape.threads,
                   detail::keydiff_layout::regions::bytes, stream, list);
  }
};

}  // namespace tersekv
