// SPDX-License-Identifier: Apache-2.0
// What a warp knows of the rows it has seen: weights relative to a reference, their sum, the sum of weighted values.
//
// A lane holds four rows (fragments.cuh) and, of every eight query rows, 2 pair and 2 pair + 1. The reference follows
// the largest logit lazily: weights may grow to 2^8 before everything is rescaled, so that this is rare. `lift` moves
// the weights so that their products with the steps of values use the range of halves: steps stay below 2^(7 - lift).
#pragma once
#include <cstdint>

#include <tersekv/backend/cuda/fragments.cuh>

namespace tersekv::detail {

inline constexpr float nothing_seen = -1e30f;  // a reference below all logits

/// Queries = 8 N rows; Tiles of 16 channels; Groups of values that have a sum of their own for weighted minima.
template <int N, int Tiles, int Groups>
struct running_softmax {
  float out[N][Tiles][4];    // as mma_half leaves it
  float rest[N][Groups][2];  // sums over this lane's rows only
  float sum[N][2];           // likewise
  float largest[N][2];       // what the reference follows, base 2
  float lift;                // at most 40

  __device__ void clear() {
    lift = 40.0f;  // above that of the smallest step
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) {
      TERSEKV_UNROLL
      for (int h = 0; h < 2; ++h) {
        largest[n][h] = nothing_seen, sum[n][h] = 0;
        TERSEKV_UNROLL
        for (int g = 0; g < Groups; ++g) rest[n][g][h] = 0;
      }
      TERSEKV_UNROLL
      for (int t = 0; t < Tiles; ++t) TERSEKV_UNROLL
      for (int k = 0; k < 4; ++k) out[n][t][k] = 0;
    }
  }

  /// Weights of the sum stand for 2^(logit - reference).
  __device__ float reference(int n, int h) const { return largest[n][h] - lift; }

  /// Scores [rows][query rows] become weights 2^(scale * score - reference). step: the largest of the steps of the
  /// lane's rows, in magnitude; of values that are numbers, 1.
  __device__ __forceinline__ void weigh(float (&s)[N][4][2], const float (&scale)[N][2], float step) {
    float most = nothing_seen;
    const auto exponent = [&](int n, int p, int h) { return s[n][p][h] * scale[n][h] - reference(n, h); };
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int p = 0; p < 4; ++p) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) most = fmaxf(most, exponent(n, p, h));
    if (__any_sync(all_lanes, most > lift + 8.0f || step >= room())) raise(s, scale, step);
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int p = 0; p < 4; ++p) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) {
      s[n][p][h] = exp2_fast(exponent(n, p, h));
      sum[n][h] += s[n][p][h];
    }
  }

  /// Adds up what lanes hold of `sum`.
  __device__ void finish() {
    const auto add = [](float a, float b) { return a + b; };
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) {
      sum[n][h] = warp_reduce(sum[n][h], add, 16, 4);
      TERSEKV_UNROLL
      for (int g = 0; g < Groups; ++g) rest[n][g][h] = warp_reduce(rest[n][g][h], add, 16, 4);
    }
  }

 private:
  /// What steps have to stay below.
  __device__ float room() const { return exp2_fast(7.0f - lift); }

  __device__ void raise(const float (&s)[N][4][2], const float (&scale)[N][2], float step) {
    const auto greater = [](float a, float b) { return fmaxf(a, b); };
    step = warp_reduce(step, greater);
    const float before = lift;
    if (step >= room())  // the exponent of a float: step < 2^(exponent - 126)
      lift = static_cast<float>(133 - static_cast<int>(__float_as_uint(step) >> 23));
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float old = largest[n][h];
      TERSEKV_UNROLL
      for (int p = 0; p < 4; ++p) largest[n][h] = fmaxf(largest[n][h], s[n][p][h] * scale[n][h]);
      largest[n][h] = warp_reduce(largest[n][h], greater, 16, 4);
      const float factor = exp2_fast(old - largest[n][h] + (lift - before));
      sum[n][h] *= factor;
      TERSEKV_UNROLL
      for (int g = 0; g < Groups; ++g) rest[n][g][h] *= factor;
      TERSEKV_UNROLL
      for (int t = 0; t < Tiles; ++t) out[n][t][h] *= factor, out[n][t][h + 2] *= factor;
    }
  }
};

/// Weights [rows][query rows] times a factor per row, as operands of the products with values: one word per block.
template <int N>
__device__ __forceinline__ void transpose_weights(const float (&w)[N][4][2], const float (&factor)[4],
                                                  std::uint32_t (&b)[N][2][2]) {
  TERSEKV_UNROLL
  for (int n = 0; n < N; ++n) TERSEKV_UNROLL
  for (int p = 0; p < 4; ++p)
    b[n][p / 2][p % 2] = transpose_8x8(half2_pack(w[n][p][0] * factor[p], w[n][p][1] * factor[p]));
}

}  // namespace tersekv::detail
