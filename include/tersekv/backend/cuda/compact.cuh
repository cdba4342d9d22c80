// SPDX-License-Identifier: Apache-2.0
// What dead rows hold is freed: head_rows::compact on a device. Pages without a live row go; then rows that are written
// alone close holes, bit for bit, in the run of pages that detail::run_to_close names; of spans that may be opened
// again, neighbours that fit in one page are joined.
#pragma once
#include <tersekv/backend/cuda/head_writer.cuh>
#include <tersekv/detail/page_run.hpp>

namespace tersekv::detail {

inline constexpr int counted_pages = 256;  // whose live rows are counted at a time

template <class Page, int Columns, bool Biased>
struct head_compactor {
  head_writer<Page, Columns, Biased>& w;
  int* sources;                // [Page::rows] for all threads
  int* counts;                 // [counted_pages] likewise
  std::byte* spare = nullptr;  // thread 0's: a page that nobody reads, held by the block

  /// After `left` rows left.
  __device__ void run(int left) {
    if (w.head.dead == 0 || (left <= Page::rows && w.head.dead < Page::rows)) return;
    drop_empty_pages();
    if constexpr (Page::span == 1) {
      const page_run run = run_to_close(w.page_count(), Page::rows, w.head.packed, w.head.dead, left,
                                        [&](int p) { return w.filled(p) - live_in(p); });
      if (run.pages() > 0) close_holes(run);
    } else if constexpr (Page::key_format::opens && Page::value_format::opens) {
      join_neighbours();
    }
  }

 private:
  /// Of one page; whole warps call it.
  __device__ int live_in(int p) const {
    int live = 0;
    for (int r = lane_id(); r < Page::rows; r += 32)
      live += __popc(__ballot_sync(all_lanes, r < w.filled(p) && position(p * Page::rows + r) >= 0));
    return live;
  }
  __device__ int position(int packed) const { return w.head.position[w.head.sinks + packed]; }

  __device__ void drop_empty_pages() {
    int dropped = 0;
    each_warp(w.page_count(), [&](int p) {
      const int live = live_in(p);
      if (live != 0 || lane_id() != 0) return;
      drop_page(w.pool, w.head.page[p]);
      w.head.page[p] = nullptr;
      ++dropped;
    });
    if (block_sum(dropped, w.scratch) > 0) forget_pages();
  }
  /// Pages that are null leave, with the columns of their rows, which are dead.
  __device__ void forget_pages() {
    const device_head& h = w.head;
    const int before = h.rows();
    const int after = w.keep_columns(
        h.sinks, before, [&](int i) { return !w.is_packed(i) || h.page[(i - h.sinks) / Page::rows] != nullptr; });
    close_ranks();
    w.head.packed -= before - after, w.head.dead -= before - after;
  }
  /// The list of pages without those that are null.
  __device__ void close_ranks() const {
    const device_head& h = w.head;
    int to = 0;
    for (int begin = 0; begin < w.page_count(); begin += static_cast<int>(blockDim.x)) {
      const int p = begin + static_cast<int>(threadIdx.x);
      std::byte* mine = p < w.page_count() ? h.page[p] : nullptr;
      int count;
      const int rank = block_rank(mine != nullptr, w.scratch, count);
      if (mine) h.page[to + rank] = mine;
      to += count;
    }
    __syncthreads();
  }

  /// sources[k], k < wanted = the next live packed rows from `next` on, which is then behind the last of them.
  __device__ void find_rows(int wanted, int& next) const {
    int found = 0;
    while (found < wanted) {
      const int i = next + lane_id();
      const bool live = i < w.head.packed && position(i) >= 0;
      const unsigned all = __ballot_sync(all_lanes, live);
      const int rank = found + __popc(all & ((1u << lane_id()) - 1));
      if (threadIdx.x < 32 && live && rank < wanted) sources[rank] = i;
      const unsigned last = __ballot_sync(all_lanes, live && rank == wanted - 1);
      next += last != 0 ? __ffs(static_cast<int>(last)) : 32;
      found += __popc(all);
    }
    __syncthreads();
  }
  __device__ tile_row source(int k, std::size_t tile_at) const {
    return {w.head.page[sources[k] / Page::rows] + tile_at, sources[k] % Page::rows};
  }

  /// Live packed rows of the run move over dead ones. Sources of a page lie in it and behind it, so pages are done in
  /// order. What is left over stays as dead rows at the end of the last page, as on the CPU.
  __device__ void close_holes(page_run run) {
    const int first = run.first * Page::rows, pages = w.page_count();
    const int behind = run.last + 1 < pages ? (run.last + 1) * Page::rows : w.head.packed;
    const int live = behind - first - run.dead, stay = run.first + (live + Page::rows - 1) / Page::rows;
    for (int p = run.first, next = first; p < stay; ++p) {
      const int left = live - (p - run.first) * Page::rows, count = left < Page::rows ? left : Page::rows;
      find_rows(count, next);
      fill_page(p, count);
    }
    const int sinks = w.head.sinks, moved = first + live, end = run.last + 1 < pages ? stay * Page::rows : moved;
    w.keep_columns(sinks + first, sinks + behind, [&](int i) { return w.head.position[i] >= 0; });
    each_thread(end - moved, [&](int i) { w.head.position[sinks + moved + i] = -1; });
    w.keep_columns(sinks + end, w.head.rows(), [&](int i) { return i >= sinks + behind; });
    each_thread(run.last + 1 - stay, [&](int i) {
      drop_page(w.pool, w.head.page[stay + i]);
      w.head.page[stay + i] = nullptr;
    });
    __syncthreads();
    close_ranks();
    w.head.packed -= behind - end, w.head.dead -= behind - end;
    for (int p = run.first; p < stay; ++p) w.resummarize(p);
  }
  /// Rows 0 .. count of page p become the sources. A page that others hold is replaced.
  __device__ void fill_page(int p, int count) const {
    const Page& page = w.pages.page;
    std::byte* mine = w.head.page[p];
    if (threadIdx.x == 0) *w.page = is_alone(mine) ? mine : take_page(w.pool);
    __syncthreads();
    std::byte* to = *w.page;
    const auto values_at = static_cast<std::size_t>(page.values_of(mine) - mine);
    fill_tile(page.keys, page.key_dim, to, 0, values_at, count);
    fill_tile(page.values, page.value_dim, to, values_at, static_cast<std::size_t>(page.summary(mine) - mine), count);
    if (threadIdx.x == 0 && to != mine) {
      w.head.page[p] = to;
      drop_page(w.pool, mine);
    }
    __syncthreads();
  }
  /// By way of the block's memory: the page itself may be a source.
  template <class Format>
  __device__ void fill_tile(const Format& f, int dim, std::byte* to, std::size_t begin, std::size_t end,
                            int count) const {
    auto* image = reinterpret_cast<std::byte*>(w.pages.scratch.numbers);
    w.clear(image, end - begin);
    block_format<Format>::move(
        f, [&](int k) { return source(k, begin); }, Page::rows, dim, count, image);
    each_thread(static_cast<int>((end - begin) / sizeof(uint4)),
                [&](int i) { reinterpret_cast<uint4*>(to + begin)[i] = reinterpret_cast<const uint4*>(image)[i]; });
    __syncthreads();
  }

  __device__ void join_neighbours() {
    const int pages = w.page_count();
    bool joined = false;
    int first = 0, live = 0;  // the page that may take in the next, and its live rows
    for (int p = 0; p < pages; ++p) {
      if (p % counted_pages == 0) {
        const int n = pages - p < counted_pages ? pages - p : counted_pages;
        each_warp(n, [&](int i) {
          const int in_page = live_in(p + i);
          if (lane_id() == 0) counts[i] = in_page;
        });
        __syncthreads();
      }
      const int more = counts[p % counted_pages];
      if (p % counted_pages == counted_pages - 1) __syncthreads();  // before they are counted anew
      if (p > 0 && live + more <= Page::rows && w.filled(p) == Page::rows) {
        join(first, p, live + more);
        live += more;
        joined = true;
      } else {
        first = p, live = more;
      }
    }
    if (!joined) return;
    if (threadIdx.x == 0 && spare) drop_page(w.pool, spare);
    forget_pages();
  }
  /// Page p takes in page q, `live` rows together; its other rows are dead copies of the last one. They are written to
  /// the spare page, and one of the two becomes the next, so that a head takes one page in all, and beyond that at most
  /// one for every two that it shares.
  __device__ void join(int p, int q, int live) {
    const device_head& h = w.head;
    find_two(p, q);
    std::byte *of_p = h.page[p], *of_q = h.page[q];
    if (threadIdx.x == 0) *w.page = spare ? spare : take_page(w.pool);
    __syncthreads();
    std::byte* fresh = *w.page;
    w.clear(fresh, w.payload_bytes());
    w.pages.encode_again(fresh, [&](int k) { return source(k < live ? k : live - 1, 0); });
    const int base = h.sinks + p * Page::rows;
    for (int begin = 0; begin < Page::rows; begin += static_cast<int>(blockDim.x)) {
      const int k = begin + static_cast<int>(threadIdx.x);
      typename head_writer<Page, Columns, Biased>::columns c{};
      if (k < live) c = w.read_columns(h.sinks + sources[k]);
      __syncthreads();
      if (k < live) w.write_columns(base + k, c);
      if (k >= live && k < Page::rows) h.position[base + k] = -1;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      h.page[p] = fresh;
      h.page[q] = nullptr;
      spare = nullptr;
      let_go(of_p);
      let_go(of_q);
    }
    __syncthreads();
  }
  /// For thread 0.
  __device__ void let_go(std::byte* page) {
    if (!spare && is_alone(page))
      spare = page;
    else
      drop_page(w.pool, page);
  }
  /// sources = the live rows of both.
  __device__ void find_two(int p, int q) const {
    int found = 0;
    for (int r = lane_id(); r < 2 * Page::rows; r += 32) {
      const int i = r < Page::rows ? p * Page::rows + r : (q - 1) * Page::rows + r;
      const bool live = position(i) >= 0;
      const unsigned all = __ballot_sync(all_lanes, live);
      const int rank = found + __popc(all & ((1u << lane_id()) - 1));
      if (threadIdx.x < 32 && live) sources[rank] = i;
      found += __popc(all);
    }
    __syncthreads();
  }
};

}  // namespace tersekv::detail
