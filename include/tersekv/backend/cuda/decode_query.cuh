// SPDX-License-Identifier: Apache-2.0
// The queries of a pass as operands, and which rows each of them sees.
#pragma once
#include <cstdint>

#include <tersekv/backend/cuda/elements.cuh>
#include <tersekv/backend/cuda/fragments.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

/// Query rows of a pass: row r is token r / group of the step, query head r % group of the KV head's group.
struct pass_rows_of {
  int first, count;  // of all rows of the step; count may be below the pass's room, also 0
};

/// Where channel `c` of query row `row` stands among the D of its row: eight lanes that read four channels each, of
/// neighbouring rows, meet every bank once.
__device__ __forceinline__ int query_place(int row, int c) { return c ^ (row % 2 * 20 + row / 2 % 2 * 8); }

/// Rows [8 N, D] in shared memory, each times a power of two so that its largest number is below 2^15 and at least
/// 2^14; scale[8 N] takes that and the logits' scale in units of log 2 together. All threads call it; barriers inside.
/// Conversions to half then are exact for queries of 16 bits, but for numbers 2^-28 times the largest. sight[8 N]
/// Where `fault` is not null, *fault becomes the least token * query heads + head that has a NaN or an infinity.
template <int Rows, int D, int Threads>
__device__ void prepare_queries(const device_query& query, const attend_shape& shape, int kv_head, pass_rows_of pass,
                                float* rows, float* scale, sight_range* sight, int* fault) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  for (int i = thread; i < Rows * D; i += Threads) {
    const int r = pass.first + i / D;
    float x = 0;
    if (i / D < pass.count)
      x = read_element(query.queries,
                       query.queries.at(r / shape.group, kv_head * shape.group + r % shape.group) + i % D);
    store_shared(rows + i / D * D + query_place(i / D, i % D), x);
  }
  if (thread < Rows) {
    store_shared(sight + thread, sight_range(shape, *query.length + (pass.first + thread) / shape.group));
  }
  __syncthreads();
  for (int r = thread / 32; r < Rows; r += Threads / 32) {
    float most = 0;
    bool finite = true;
    for (int c = lane; c < D; c += 32) {
      const float x = load_shared<float>(rows + r * D + c);
      finite = finite && (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
      most = x > most ? x : -x > most ? -x : most;
    }
    if (fault != nullptr && !__all_sync(all_lanes, finite) && lane == 0) {
      const int all = pass.first + r, token = all / shape.group;
      atomicMin(fault, (token * shape.kv_heads + kv_head) * shape.group + all % shape.group);
    }
    most = warp_reduce(most, [](float a, float b) { return a > b ? a : b; });
    int exponent = static_cast<int>(__float_as_uint(most) >> 23);  // 2^(exponent - 127) <= most; 0 below 2^-126
    exponent = exponent < 30 ? 30 : exponent;
    const float factor = __uint_as_float(static_cast<std::uint32_t>(127 + 14 + 127 - exponent) << 23);
    for (int c = lane; c < D; c += 32) store_shared(rows + r * D + c, load_shared<float>(rows + r * D + c) * factor);
    if (lane == 0) store_shared(scale + r, shape.scale * log2_of_e / factor);
  }
  __syncthreads();
}

/// Operands of the pass's queries for keys in the order of Keys::first_channel. q[n][j][product]
template <class Keys, int N, int D>
__device__ __forceinline__ void query_operands(const float* rows, fragment_lane at,
                                               std::uint32_t (&q)[N][D / 32][2][2]) {
  TERSEKV_UNROLL
  for (int n = 0; n < N; ++n) TERSEKV_UNROLL
  for (int j = 0; j < D / 32; ++j) TERSEKV_UNROLL
  for (int product = 0; product < 2; ++product) {
    const auto x =
        load_shared<float4>(rows + (8 * n + at.row) * D + query_place(at.row, Keys::first_channel(at, j, product)));
    q[n][j][product][0] = half2_pack(x.x, x.z);
    q[n][j][product][1] = half2_pack(x.y, x.w);
  }
}

}  // namespace tersekv::detail
