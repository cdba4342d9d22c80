// SPDX-License-Identifier: Apache-2.0
// Two small kernels that use every part of the harness: a sum over a ring of tiles with a merge of blocks, and a
// product on tensor cores.
#pragma once
#include <cstdint>

#include <tersekv/backend/cuda/device.cuh>

namespace samples {

using namespace tersekv::detail;

// ----------------------------------------------------------------------------------------------------------------- sum
inline constexpr int sum_threads = 128;

struct sum_arguments {
  const float* in;  // [n], n > 0, 16-byte aligned
  int n;
  float* partial;     // [blocks]
  unsigned* arrived;  // zero before the first launch, and after each
  float* out;         // [1]
};

template <int Stages>
using sum_layout =
    shared_layout<region<float4, Stages * sum_threads>, region<float, sum_threads / 32>, region<unsigned, 1>>;

/// Starts the copy of a tile of 4 * sum_threads numbers, zeros past the end. Every call commits: groups count tiles.
template <int Stages>
__device__ void fetch(const sum_arguments& a, unsigned tile, unsigned stage) {
  const std::int64_t first = (std::int64_t{tile} * sum_threads + threadIdx.x) * 4;
  const std::int64_t left = a.n - first;
  const int valid = left <= 0 ? 0 : left < 4 ? static_cast<int>(left) * 4 : 16;  // bytes
  float4* ring = sum_layout<Stages>::template get<0>();
  if (std::int64_t{tile} * sum_threads * 4 < a.n)
    copy_async<16>(ring + stage * sum_threads + threadIdx.x, a.in + (valid > 0 ? first : 0), valid);
  copy_commit();
}

/// The sum over the block, in every thread. A barrier stands between two calls.
template <int Stages>
__device__ float block_sum(float mine) {
  float* of_warp = sum_layout<Stages>::template get<1>();
  mine = warp_reduce(mine, [](float x, float y) { return x + y; });
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  float sum = 0;
  TERSEKV_UNROLL
  for (int w = 0; w < sum_threads / 32; ++w) sum += of_warp[w];
  return sum;
}

/// out = sum of in. Each block sums every gridDim.x-th tile; the last block to come adds the partial sums.
template <int Stages>
__global__ void __launch_bounds__(sum_threads) sum(sum_arguments a) {
  const float4* ring = sum_layout<Stages>::template get<0>();
  unsigned* is_last = sum_layout<Stages>::template get<2>();
  constexpr unsigned ahead = Stages - 1;
  TERSEKV_UNROLL
  for (unsigned s = 0; s < ahead; ++s) fetch<Stages>(a, blockIdx.x + s * gridDim.x, s);
  const auto tiles = static_cast<unsigned>((a.n + 4 * sum_threads - 1) / (4 * sum_threads));
  float mine = 0;
  unsigned stage = 0;
  for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    copy_wait<ahead - 1>();
    __syncthreads();  // the copies of all threads have landed, and the stage refilled next is free
    fetch<Stages>(a, tile + ahead * gridDim.x, (stage + ahead) % Stages);
    const auto x = load_shared<float4>(ring + stage * sum_threads + (sum_threads - 1 - threadIdx.x));
    mine += x.x + x.y + x.z + x.w;
    stage = (stage + 1) % Stages;
  }
  const float of_block = block_sum<Stages>(mine);

  if (threadIdx.x == 0) {
    store(a.partial + blockIdx.x, of_block);
    __threadfence();
    *is_last = atomicInc(a.arrived, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (*is_last == 0) return;
  mine = 0;
  for (unsigned b = threadIdx.x; b < gridDim.x; b += sum_threads) mine += load(a.partial + b);
  const float all = block_sum<Stages>(mine);
  if (threadIdx.x == 0) store(a.out, all);
}

// ------------------------------------------------------------------------------------------------------------- product
struct product_arguments {
  const std::uint32_t* a;  // half [rows, k], 16 rows for each warp, as pairs
  const std::uint32_t* b;  // half [8, k], as pairs
  float* c;                // [rows, 8]
  int k;                   // a multiple of 16
};

template <int Warps>
using product_layout = shared_layout<region<uint4, Warps * 32>>;

/// Place of chunk 0 or 1 (8 halves) of a row of 16: the rows of an 8 x 8 block lie in different banks.
__device__ inline unsigned chunk_of(unsigned row, unsigned chunk) { return row * 2 + (chunk ^ (row >> 2 & 1)); }

/// c = a b^T; each warp has 16 rows of a.
template <int Warps>
__global__ void __launch_bounds__(Warps * 32) product(product_arguments p) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned first_row = (blockIdx.x * Warps + warp) * 16;
  const auto words = static_cast<unsigned>(p.k) / 2;  // of a row
  uint4* tile = product_layout<Warps>::template get<0>() + warp * 32;
  float c[4] = {};
  for (unsigned step = 0; step < words; step += 8) {
    const std::uint32_t* from = p.a + (first_row + lane / 2) * words + step + lane % 2 * 4;
    const auto chunk = load(reinterpret_cast<const uint4*>(from));
    __syncwarp();  // nobody reads the last tile any more
    store_shared(tile + chunk_of(lane / 2, lane % 2), chunk);
    __syncwarp();
    std::uint32_t a[4];
    load_blocks(a, tile + chunk_of(lane % 16, lane / 16));
    const std::uint32_t* column = p.b + lane / 4 * words + step + lane % 4;
    const std::uint32_t b[2] = {load(column), load(column + 4)};
    mma_half(c, a, b);
  }
  float* out = p.c + (first_row + lane / 4) * 8 + lane % 4 * 2;
  store(reinterpret_cast<float2*>(out), make_float2(c[0], c[1]));
  store(reinterpret_cast<float2*>(out + 8 * 8), make_float2(c[2], c[3]));
}

}  // namespace samples
