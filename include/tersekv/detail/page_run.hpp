// SPDX-License-Identifier: Apache-2.0
// Which pages of a head move together when rows have left: on the CPU and on a device alike.
#pragma once
#include <tersekv/config.hpp>

namespace tersekv::detail {

/// Pages first .. last, both included, with `dead` rows that have left.
struct page_run {
  int first = 0, last = -1, dead = 0;
  TERSEKV_HD int pages() const { return last - first + 1; }
};

/// The fewest neighbours, the first of such, that a page of `rows` rows has left; none where too few have left.
/// dead_in(p) may be asked for twice.
template <class Count>
TERSEKV_HD page_run shortest_run(int pages, int rows, Count dead_in) {
  page_run best, now;
  for (now.last = 0; now.last < pages; ++now.last) {
    now.dead += dead_in(now.last);
    for (; now.dead >= rows; now.dead -= dead_in(now.first++))
      if (best.pages() == 0 || now.pages() < best.pages()) best = now;
  }
  return best;
}

/// The pages whose live rows move together so that others become free. All from the first that a row has left, where
/// the `left` rows of this commit are more than a page and that frees one. The shortest run otherwise: while single
/// rows come and go, up to a page of rows may be dead, and the unfinished page does not count. (If it did, a budget of
/// whole pages would have one dead row and 31 that are not there yet after every token.)
template <class Count>
TERSEKV_HD page_run run_to_close(int pages, int rows, int packed, int dead, int left, Count dead_in) {
  if (left <= rows) return dead < rows ? page_run{} : shortest_run(pages, rows, dead_in);
  if (dead + pages * rows - packed < rows) return {};
  page_run all{0, pages - 1, dead};
  while (dead_in(all.first) == 0) ++all.first;
  return all;
}

}  // namespace tersekv::detail
