// SPDX-License-Identifier: Apache-2.0
// Which packed pages of a head its queries read: a bound per page, and the pages with the largest ones. Where extremes
// of all pages lie together, they tell which pages may be among them, and only these have their bounds found.
// Read before: page_ranges.hpp, read/quest.hpp, which has the reference of the bounds.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include <tersekv/backend/cpu/page_ranges.hpp>
#include <tersekv/read/quest.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// Rows of queries that share one reading of the packed rows. What is left over is padded where that is cheaper than
/// reading twice.
inline int pass_rows(int left) {
  for (const int size : simd::pass_sizes)
    if (left >= size - size / 4) return size;
  return 1;
}

/// Calls f(std::integral_constant<int, rows>).
template <std::size_t I = 0, class F>
TERSEKV_INLINE void with_rows(int rows, F&& f) {
  constexpr int size = simd::pass_sizes[I];
  if constexpr (I + 1 == std::size(simd::pass_sizes)) {
    f(std::integral_constant<int, size>{});
  } else {
    if (rows == size) return f(std::integral_constant<int, size>{});
    with_rows<I + 1>(rows, f);
  }
}

/// Pages chosen for one step, and what it took.
struct page_choice {
  std::vector<int> pages;                          // ascending
  std::vector<int> certain, merged;                // pages whose bounds need not be known; both together
  std::vector<float> bounds;                       // [pages]
  std::vector<std::int32_t> ranked;                // [pages]
  std::vector<line_of_floats> positive, negative;  // parts of the queries [R, padded(key_dim)]; both are read again for
                                                   // every page: no vector of them lies in two cache lines
  bound_ranges ranges;
};

/// Queries of one head: count rows of dim numbers.
struct query_rows {
  const float* first;
  int count, stride, dim;
};

/// choice.bounds[p] = the largest bound of page p over all queries. summary(p): of page p.
template <class Read, class Summary>
void find_bounds(const Read& read, const query_rows& q, Summary&& summary, page_choice& choice) {
  for (std::size_t p = 0; p < choice.bounds.size(); ++p)
    choice.bounds[p] = read.bound(q.first, q.count, q.stride, summary(static_cast<int>(p)), q.dim);
}

/// Raises bounds to those of R queries, given as their positive and negative parts: what a channel adds at most is
/// one part times the maximum plus the other times the minimum.
template <int R, class Summary>
void raise_bounds(const page_choice& choice, int dim, Summary&& summary, float* bounds) {
  constexpr int W = simd::lanes, later = 8;  // pages
  const int pages = static_cast<int>(choice.bounds.size()), row = padded(dim), whole = dim / W * W;
  const std::size_t bytes = 2 * sizeof(half) * static_cast<std::size_t>(dim);
  const float *positive = choice.positive.data()->of, *negative = choice.negative.data()->of;
  const simd::f32 largest = simd::set(std::numeric_limits<float>::max()), least = simd::sub(simd::zero(), largest);
  for (int p = 0; p < pages; ++p) {
    if (p + 2 * later < pages) prefetch_addresses(summary(p + 2 * later), bytes);
    if (p + later < pages) prefetch_all(summary(p + later), bytes);
    const half* low = reinterpret_cast<const half*>(summary(p));
    simd::f32 sum[R];
    each<R>([&](auto r) TERSEKV_INLINED { sum[r] = simd::zero(); });
    const auto add = [&](simd::f32 a, simd::f32 b, int c) TERSEKV_INLINED {
      a = simd::max(a, least), b = simd::min(b, largest);  // beyond 16 bit: zero times infinity is not a number
      each<R>([&](auto r) TERSEKV_INLINED {
        sum[r] = simd::fma(a, simd::load(negative + r * row + c), sum[r]);
        sum[r] = simd::fma(b, simd::load(positive + r * row + c), sum[r]);
      });
    };
    for (int c = 0; c < whole; c += W) add(simd::load(low + c), simd::load(low + dim + c), c);
    if (const int left = dim - whole; left > 0)
      add(simd::load_part(low + whole, left), simd::load_part(low + dim + whole, left), whole);
    float total[R];
    simd::sums(sum, total);
    for (const float bound : total) bounds[p] = std::max(bounds[p], bound);  // what is not a number counts for nothing
  }
}

/// f<R>() for all queries, R at a time, whose parts are in `choice`.
template <class F>
void for_each_pass(const query_rows& q, page_choice& choice, F&& f) {
  const int row = padded(q.dim);
  for (int first = 0, rows = 0; first < q.count; first += rows) {
    rows = pass_rows(q.count - first);
    choice.positive.assign(static_cast<std::size_t>(rows * row / 16), {});
    choice.negative.assign(static_cast<std::size_t>(rows * row / 16), {});
    float *positive = choice.positive.data()->of, *negative = choice.negative.data()->of;
    for (int r = 0; r < rows; ++r) {
      const float* x = q.first + std::min(first + r, q.count - 1) * q.stride;  // the last one again changes no maximum
      for (int c = 0; c < q.dim; ++c) {
        positive[r * row + c] = x[c] > 0 ? x[c] : 0;
        negative[r * row + c] = x[c] > 0 ? 0 : x[c];
      }
    }
    with_rows(rows, [&]<int R>(std::integral_constant<int, R>) { f.template operator()<R>(); });
  }
}

template <class Summary>
void find_bounds(const quest&, const query_rows& q, Summary&& summary, page_choice& choice) {
  std::fill(choice.bounds.begin(), choice.bounds.end(), -std::numeric_limits<float>::infinity());
  for_each_pass(q, choice, [&]<int R>() { raise_bounds<R>(choice, q.dim, summary, choice.bounds.data()); });
}

/// A number that n of x reach: the n-th largest or, where that is larger than the next one, a number between the two.
/// Sorting would branch on every number; here the bits of the result are found by counting.
inline float reached_by(int n, const std::vector<float>& x, std::vector<std::int32_t>& memory) {
  constexpr std::int32_t least = std::numeric_limits<std::int32_t>::min(), most = ~least;
  const auto in_order = [=](std::int32_t bits) { return bits < 0 ? bits ^ most : bits; };  // and back
  memory.assign(static_cast<std::size_t>(round_up_to(static_cast<int>(x.size()), simd::lanes)), least);
  for (std::size_t i = 0; i < x.size(); ++i) memory[i] = in_order(std::bit_cast<std::int32_t>(x[i]));
  std::int64_t low = in_order(std::bit_cast<std::int32_t>(-std::numeric_limits<float>::infinity()));
  std::int64_t high = *std::max_element(memory.begin(), memory.end());
  while (low < high) {  // n reach low, fewer what is above high
    const auto middle = static_cast<std::int32_t>(low + (high - low + 1) / 2);
    int count = 0;
    for (std::size_t i = 0; i < memory.size(); i += simd::lanes)
      count += std::popcount(simd::between(memory.data() + i, middle, most));
    if (count >= n) low = middle;
    if (count <= n) high = count == n ? middle : middle - 1;
  }
  return std::bit_cast<float>(in_order(static_cast<std::int32_t>(low)));
}

/// choice.pages: those of pages 0 .. count that may be among the `want` with the largest bounds. choice.certain: those
/// that are among them whatever their bounds are.
template <class Head>
void find_candidates(const Head& head, const query_rows& q, int want, int count, page_choice& choice) {
  choice.pages.clear(), choice.certain.clear();
  if constexpr (requires { head.extremes(); }) {
    bound_ranges& ranges = choice.ranges;
    ranges.clear(count);
    for_each_pass(q, choice, [&]<int R>() {
      raise_ranges<R>(head.extremes(), count, q.dim, choice.positive.data()->of, choice.negative.data()->of, ranges);
    });
    for (std::vector<float>* x : {&ranges.lowest, &ranges.highest}) x->resize(static_cast<std::size_t>(count));
    const float least = reached_by(want, ranges.lowest, choice.ranked);
    const float enough = reached_by(want, ranges.highest, choice.ranked);  // not more than those wanted are above it
    for (int p = 0; p < count; ++p) {
      const auto i = static_cast<std::size_t>(p);
      if (ranges.highest[i] < least) continue;
      (ranges.lowest[i] > enough ? choice.certain : choice.pages).push_back(p);
      simd::prefetch(head.entry(p));
    }
  } else {
    for (int p = 0; p < count; ++p) choice.pages.push_back(p);
  }
}

/// Leaves those `want` of choice.pages that have the largest bounds, newer ones where they are equal.
inline void keep_largest(int want, page_choice& choice) {
  const float last = reached_by(want, choice.bounds, choice.ranked);
  const auto above = std::count_if(choice.bounds.begin(), choice.bounds.end(), [&](float x) { return x > last; });
  int equal = want - static_cast<int>(above);
  std::size_t kept = choice.pages.size();
  for (std::size_t i = choice.pages.size(); i-- > 0;)
    if (const float x = choice.bounds[i]; x > last || (x == last && equal-- > 0))
      choice.pages[--kept] = choice.pages[i];
  choice.pages.erase(choice.pages.begin(), choice.pages.begin() + static_cast<std::ptrdiff_t>(kept));
}

/// The newest page of a head, and those with the largest bounds. False: all pages are to be read.
template <class Read, class Format, class Head>
bool choose_pages(const Read& read, const Format& format, const Head& head, const query_rows& q, page_choice& choice) {
  const int want = std::min(read.pages(Format::rows), head.pages()) - 1, older = head.pages() - 1;
  if (want >= older) return false;
  choice.pages.clear();
  if (want > 0) {
    find_candidates(head, q, want, older, choice);
    const int open = want - static_cast<int>(choice.certain.size());
    if (choice.pages.size() > static_cast<std::size_t>(open)) {
      choice.bounds.resize(choice.pages.size());
      find_bounds(
          read, q, [&](int i) { return head.summary(format, choice.pages[static_cast<std::size_t>(i)]); }, choice);
      keep_largest(open, choice);
    }
    choice.merged.resize(choice.pages.size() + choice.certain.size());
    std::merge(choice.pages.begin(), choice.pages.end(), choice.certain.begin(), choice.certain.end(),
               choice.merged.begin());
    choice.pages.swap(choice.merged);
  }
  choice.pages.push_back(older);
  return true;
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
