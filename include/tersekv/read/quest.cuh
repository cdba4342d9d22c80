// SPDX-License-Identifier: Apache-2.0
// quest on the device: the bound of one page, by one warp, added up in the order of quest::bound.
#pragma once
#include <cfloat>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/read/quest.hpp>

namespace tersekv {

struct quest_on_device {
  /// The largest u_p over queries [count, key_dim] in shared memory; all lanes get it. Eight lanes work on a query,
  /// each on two of quest::bound's sixteen sums.
  __device__ static float bound(const float* queries, int count, const std::byte* summary, int key_dim) {
    constexpr int lanes = 16, piece = 256;
    const int lane = static_cast<int>(threadIdx.x % 32), octet = lane / 8, first = 2 * (lane % 8);
    const half* least = reinterpret_cast<const half*>(summary);
    const half* most = least + key_dim;
    float best = -INFINITY;
    for (int i = octet; i - octet < count; i += 4) {  // the same number of rounds for all lanes
      const float* q = queries + (i < count ? i : 0) * key_dim;
      const auto product = [&](int c) {
        const float x = q[c] * bounded(least[c]), y = q[c] * bounded(most[c]);
        return x > y ? x : y;
      };
      float total = 0;
      for (int c0 = 0; c0 < key_dim; c0 += piece) {
        const int n = key_dim - c0 < piece ? key_dim - c0 : piece, whole = n / lanes * lanes;
        float sum[2] = {0, 0};
        for (int c = c0 + first; c < c0 + whole; c += lanes) {
          sum[0] += product(c);
          sum[1] += product(c + 1);
        }
        if (first == 0)
          for (int c = c0 + whole; c < c0 + n; ++c) sum[0] += product(c);
        TERSEKV_UNROLL
        for (int l = 0; l < lanes / 2; ++l) {
          total += __shfl_sync(detail::all_lanes, sum[0], l, 8);
          total += __shfl_sync(detail::all_lanes, sum[1], l, 8);
        }
      }
      if (i < count && total > best) best = total;
    }
    return detail::warp_reduce(
        best, [](float a, float b) { return a > b ? a : b; }, 16, 8);
  }

 private:
  /// Beyond 16 bit bounds are infinite, and zero times that is not a number.
  __device__ static float bounded(half h) {
    const float x = detail::half_to_float(h.bits);
    return x < -FLT_MAX ? -FLT_MAX : x > FLT_MAX ? FLT_MAX : x;
  }
};

}  // namespace tersekv
