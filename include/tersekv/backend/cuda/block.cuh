// SPDX-License-Identifier: Apache-2.0
// What the threads of one block find out together about many rows: sums, ranks, and the largest keys.
#pragma once
#include <cstdint>

#include <tersekv/backend/cuda/device.cuh>

namespace tersekv::detail {

inline constexpr int most_warps = 32;  // of a block

/// Sum over the block's threads, known to all. scratch [most_warps]; every thread calls it.
template <class T>
__device__ T block_sum(T value, T* scratch) {
  value = warp_reduce(value, [](T a, T b) { return a + b; });
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += scratch[w];
  __syncthreads();
  return sum;
}

/// How many threads before this one have the flag, and how many there are in all. scratch [most_warps]; every thread
/// calls it.
__device__ inline int block_rank(bool flag, int* scratch, int& count) {
  const unsigned votes = __ballot_sync(all_lanes, flag), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) scratch[warp] = __popc(votes);
  __syncthreads();
  int rank = __popc(votes & ((1u << lane) - 1));
  count = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) {
    if (w < warp) rank += scratch[w];
    count += scratch[w];
  }
  __syncthreads();
  return rank;
}

/// Memory of block_select in shared memory.
struct select_scratch {
  int bins[256];
  int digit, wanted, done;
};

/// Adds the warp's digits to the bins; scores are alike, so most lanes mostly meet in one bin.
__device__ inline void count_digits(int* bins, bool mine, int digit) {
  const unsigned of_all = __ballot_sync(all_lanes, mine);
  if (of_all == 0) return;
  const int leader = __ffs(static_cast<int>(of_all)) - 1, first = __shfl_sync(all_lanes, digit, leader);
  const unsigned alike = __ballot_sync(all_lanes, mine && digit == first);
  if (static_cast<int>(threadIdx.x % 32) == leader) atomicAdd(&bins[first], __popc(alike));
  if (mine && digit != first) atomicAdd(&bins[digit], 1);
}

/// The bin, counted from the last one, in which the `wanted`-th count lies. The first warp calls it.
__device__ inline void find_digit(select_scratch* s, int wanted) {
  const int lane = static_cast<int>(threadIdx.x), last = 255 - 8 * lane;
  int mine = 0;
  TERSEKV_UNROLL
  for (int b = 0; b < 8; ++b) mine += s->bins[last - b];
  int through = mine;  // of this lane and those before
  TERSEKV_UNROLL
  for (int by = 1; by < 32; by *= 2) {
    const int other = __shfl_up_sync(all_lanes, through, by);
    if (lane >= by) through += other;
  }
  if (int before = through - mine; before < wanted && wanted <= through) {
    int bin = last;
    while (before + s->bins[bin] < wanted) before += s->bins[bin--];
    s->digit = bin;
    s->wanted = wanted - before;
    s->done = s->bins[bin] == wanted - before;
  }
}

/// The least key that belongs to the `wanted` largest of key(0) ... key(n - 1). Keys differ from each other; 0 is no
/// key. 1 <= wanted <= number of keys. Every thread calls it, in whole warps, and gets the answer.
/// Cost    8 bits of the keys a pass, until a digit divides those wanted from the others
template <class Key>
__device__ std::uint64_t block_select(int n, int wanted, const Key& key, select_scratch* s) {
  std::uint64_t prefix = 0, mask = 0;
  for (int shift = 56;; shift -= 8) {
    for (int b = static_cast<int>(threadIdx.x); b < 256; b += static_cast<int>(blockDim.x)) s->bins[b] = 0;
    __syncthreads();
    for (int first = 0; first < n; first += static_cast<int>(blockDim.x)) {
      const int i = first + static_cast<int>(threadIdx.x);
      const std::uint64_t k = i < n ? key(i) : 0;
      count_digits(s->bins, k != 0 && (k & mask) == prefix, static_cast<int>(k >> shift & 255));
    }
    __syncthreads();
    if (threadIdx.x < 32) find_digit(s, wanted);
    __syncthreads();
    prefix |= static_cast<std::uint64_t>(s->digit) << shift;
    mask |= std::uint64_t{255} << shift;
    wanted = s->wanted;
    if (s->done || shift == 0) return prefix != 0 ? prefix : 1;
  }
}

}  // namespace tersekv::detail
