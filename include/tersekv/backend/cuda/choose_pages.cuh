// SPDX-License-Identifier: Apache-2.0
// Which packed pages a step of one token reads, for read policies that choose: the answer of choose_pages() in
// cpu/page_choice.hpp for every (sequence, KV head) of a batch.
#pragma once
#include <tersekv/backend/cuda/block.cuh>
#include <tersekv/backend/cuda/commit.hpp>
#include <tersekv/backend/cuda/elements.cuh>
#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/detail/row_worth.hpp>

namespace tersekv::detail {

template <class Page>
struct choose_arguments {
  Page page;
  attend_shape shape;
  const device_query* batch;  // [sequences] steps of one token
  int most_pages, wanted;     // of a head
  float* bounds;              // [sequences, kv_heads, most_pages]
  int* pages;                 // [sequences, kv_heads, wanted]
  int* counts;                // [sequences, kv_heads]

  __device__ const device_head& head() const { return batch[blockIdx.z].heads[blockIdx.y]; }
  __device__ int index() const { return static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y); }
  __device__ static int pages_of(const device_head& head) { return (head.packed + Page::rows - 1) / Page::rows; }
};

inline constexpr int choose_warps = 8, choose_numbers = 4096;  // of queries in shared memory at a time
using bound_layout = shared_layout<region<float, choose_numbers>>;

/// The bounds of all pages but the newest; one warp works on a page.
/// Shapes  grid (most_pages / choose_warps, kv_heads, sequences)
template <class Page>
__global__ void bound_kernel(choose_arguments<Page> a) {
  using read = typename std::remove_cvref_t<decltype(a.page.read)>::on_device;
  float* queries = bound_layout::get<0>();
  const device_head& head = a.head();
  const device_query& step = a.batch[blockIdx.z];
  const int p = static_cast<int>(blockIdx.x) * choose_warps + static_cast<int>(threadIdx.x / 32);
  const int have = a.pages_of(head), dim = a.page.key_dim, at_once = choose_numbers / dim;
  if (have <= a.wanted) return;  // the whole block
  const float unit = a.shape.scale * log2_of_e;
  float best = -INFINITY;
  for (int first = 0; first < a.shape.group; first += at_once) {
    const int count = a.shape.group - first < at_once ? a.shape.group - first : at_once;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count * dim; i += static_cast<int>(blockDim.x)) {
      const int query_head = static_cast<int>(blockIdx.y) * a.shape.group + first + i / dim;
      queries[i] = read_element(step.queries, step.queries.at(0, query_head) + i % dim) * unit;
    }
    __syncthreads();
    if (p + 1 < have) {
      const float bound = read::bound(queries, count, a.page.summary(head.page[p]), dim);
      best = bound > best ? bound : best;
    }
  }
  if (p + 1 < have && threadIdx.x % 32 == 0) a.bounds[static_cast<std::int64_t>(a.index()) * a.most_pages + p] = best;
}

using choose_layout = shared_layout<region<int, most_warps>, region<select_scratch, 1>>;

/// The newest page and those with the largest bounds, ascending.
/// Shapes  grid (1, kv_heads, sequences)
template <class Page>
__global__ void choose_kernel(choose_arguments<Page> a) {
  int* scratch = choose_layout::get<0>();
  const int have = a.pages_of(a.head()), index = a.index();
  const float* bounds = a.bounds + static_cast<std::int64_t>(index) * a.most_pages;
  const auto key = [&](int p) {
    const float bound = p + 1 == have ? INFINITY : bounds[p];
    return static_cast<std::uint64_t>(ordered(bound)) << 32 | static_cast<std::uint64_t>(p + 1);
  };
  const bool all = have <= a.wanted;
  const std::uint64_t least = all ? 0 : block_select(have, a.wanted, key, choose_layout::get<1>());
  int chosen = 0;
  for (int first = 0; first < have; first += static_cast<int>(blockDim.x)) {
    const int p = first + static_cast<int>(threadIdx.x);
    const bool read = p < have && (all || key(p) >= least);
    int count;
    const int to = chosen + block_rank(read, scratch, count);
    if (read) a.pages[static_cast<std::int64_t>(index) * a.wanted + to] = p;
    chosen += count;
  }
  if (threadIdx.x == 0) a.counts[index] = chosen;
}

template <class Page>
std::size_t carve_choice(carver& from, choose_arguments<Page>& a, int sequences) {
  const auto heads = static_cast<std::size_t>(sequences) * static_cast<std::size_t>(a.shape.kv_heads);
  from.take(a.bounds, heads * static_cast<std::size_t>(a.most_pages));
  from.take(a.pages, heads * static_cast<std::size_t>(a.wanted));
  from.take(a.counts, heads);
  return from.bytes();
}

/// Bytes of a workspace for choose_pages.
template <class Page>
std::size_t choose_pages_workspace(const Page& page, const attend_shape& shape, int sequences, int most_pages) {
  carver count(nullptr);
  choose_arguments<Page> a{page, shape, nullptr, most_pages, page.read.pages(Page::rows), nullptr, nullptr, nullptr};
  return carve_choice(count, a, sequences);
}

/// Lists, in the workspace, of the pages that the steps of a batch read; most_pages: of the longest head, or more.
template <class Page>
page_lists choose_pages(const Page& page, const attend_shape& shape, const device_query* batch, int sequences,
                        int most_pages, void* workspace, cuda_stream stream) {
  carver memory(workspace);
  choose_arguments<Page> a{page, shape, batch, most_pages, page.read.pages(Page::rows), nullptr, nullptr, nullptr};
  carve_choice(memory, a, sequences);
  const auto heads = static_cast<unsigned>(shape.kv_heads), all = static_cast<unsigned>(sequences);
  if (most_pages > a.wanted)
    launch(bound_kernel<Page>, dim3(static_cast<unsigned>((most_pages + choose_warps - 1) / choose_warps), heads, all),
           32 * choose_warps, bound_layout::bytes, stream, a);
  launch(choose_kernel<Page>, dim3(1, heads, all), 256, choose_layout::bytes, stream, a);
  return {a.pages, a.counts, a.wanted};
}

}  // namespace tersekv::detail
