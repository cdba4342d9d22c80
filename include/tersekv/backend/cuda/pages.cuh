// SPDX-License-Identifier: Apache-2.0
// Pages on a device, counted as those of pool.hpp: several heads may hold one. Kernels take and drop pages; what was
// dropped is free only after recycle_pages, so no kernel reads a page that another block of it has taken anew.
#pragma once
#include <cstddef>

#include <tersekv/backend/cuda/codes.cuh>
#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/backend/cuda/rows.hpp>

namespace tersekv::detail {

inline constexpr std::size_t page_header = 64;  // bytes in front of a page's payload; the count of its holders is first

/// All in device memory. A page of the stacks is the address of its header; heads hold addresses of payloads.
struct device_pool {
  std::byte** free;  // [free_count] pages that may be taken; the host has made sure that there are enough
  int* free_count;
  std::byte** freed;  // [freed_count] pages without a holder since the last recycle_pages
  int* freed_count;
  std::size_t page_bytes;  // header and payload, a multiple of 16
};

__device__ __forceinline__ int* holders(std::byte* payload) { return reinterpret_cast<int*>(payload - page_header); }

/// The payload of a page with one holder. Were there none, which the host excludes, the kernel would end here.
__device__ __forceinline__ std::byte* take_page(const device_pool& pool) {
  const int left = atomicAdd(pool.free_count, -1);
  if (left <= 0) __trap();
  std::byte* payload = pool.free[left - 1] + page_header;
  *holders(payload) = 1;
  return payload;
}
/// One holder less. The caller's reads of the page come before.
__device__ __forceinline__ void drop_page(const device_pool& pool, std::byte* payload) {
  __threadfence();
  if (atomicAdd(holders(payload), -1) == 1) pool.freed[atomicAdd(pool.freed_count, 1)] = payload - page_header;
}
/// Whether its bytes may be written.
__device__ __forceinline__ bool is_alone(std::byte* payload) {
  const bool alone = atomicAdd(holders(payload), 0) == 1;
  __threadfence();
  return alone;
}

inline constexpr unsigned page_threads = 128;

template <class Pool>  // a template, as kernels in headers cannot be inline
__global__ void recycle_kernel(Pool pool) {
  const int free = *pool.free_count, freed = *pool.freed_count;
  __syncthreads();  // before the counts change
  each_thread(freed, [&](int i) { pool.free[free + i] = pool.freed[i]; });
  if (threadIdx.x != 0) return;
  *pool.free_count = free + freed;
  *pool.freed_count = 0;
}
/// Pages that lost their last holder become free.
inline void recycle_pages(const device_pool& pool, cuda_stream stream) {
  launch(recycle_kernel<device_pool>, 1, page_threads, 0, stream, pool);
}

struct page_holding {
  device_pool pool;
  const device_head* heads;
};
template <int PageRows>
__device__ int pages_of(const device_head& head) {
  return (head.packed + PageRows - 1) / PageRows;
}
template <int PageRows>
__global__ void share_kernel(page_holding a) {
  const device_head& head = a.heads[blockIdx.x];
  each_thread(pages_of<PageRows>(head), [&](int p) { atomicAdd(holders(head.page[p]), 1); });
}
template <int PageRows>
__global__ void release_kernel(page_holding a) {
  const device_head& head = a.heads[blockIdx.x];
  each_thread(pages_of<PageRows>(head), [&](int p) { drop_page(a.pool, head.page[p]); });
}
/// A fork: heads[count] is a copy of heads whose pages get one holder more.
template <int PageRows>
void share_heads(const device_head* heads, int count, cuda_stream stream) {
  launch(share_kernel<PageRows>, static_cast<unsigned>(count), page_threads, 0, stream, {{}, heads});
}
/// The end of a sequence: its heads[count] let go of their pages.
template <int PageRows>
void release_heads(const device_head* heads, int count, const device_pool& pool, cuda_stream stream) {
  launch(release_kernel<PageRows>, static_cast<unsigned>(count), page_threads, 0, stream, {pool, heads});
}

}  // namespace tersekv::detail
