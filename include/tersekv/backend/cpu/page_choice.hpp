// SPDX-License-Identifier: Apache-2.0
// Which packed pages of a head its queries read: a bound per page, and the pages with the largest ones.
// Read before: numbers.hpp, read/quest.hpp, which has the reference of the bounds.
#pragma once
#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include <tersekv/backend/cpu/numbers.hpp>
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

/// Memory for queries that are read again for every page: no vector of it lies in two cache lines.
struct alignas(64) line_of_floats {
  float of[16];
};

/// Pages chosen for one step, and what it took.
struct page_choice {
  std::vector<int> pages;                          // ascending
  std::vector<float> bounds, ranked;               // [pages of the head]
  std::vector<line_of_floats> positive, negative;  // parts of the queries [R, padded(key_dim)]
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
    if (p + later < pages)
      for (std::size_t b = 0; b < bytes; b += 64) simd::prefetch(summary(p + later) + b);
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
    bounds[p] = std::max(bounds[p], *std::max_element(total, total + R));
  }
}

template <class Summary>
void find_bounds(const quest&, const query_rows& q, Summary&& summary, page_choice& choice) {
  std::fill(choice.bounds.begin(), choice.bounds.end(), -std::numeric_limits<float>::infinity());
  const int row = padded(q.dim);
  for (int first = 0, rows = 0; first < q.count; first += rows) {
    rows = pass_rows(q.count - first);
    choice.positive.assign(static_cast<std::size_t>(rows * row / 16), {});
    choice.negative.assign(static_cast<std::size_t>(rows * row / 16), {});
    float *positive = choice.positive.data()->of, *negative = choice.negative.data()->of;
    for (int r = 0; r < rows; ++r) {
      const float* x = q.first + std::min(first + r, q.count - 1) * q.stride;  // the last one again changes no maximum
      for (int c = 0; c < q.dim; ++c) (x[c] > 0 ? positive : negative)[r * row + c] = x[c];
    }
    with_rows(rows, [&]<int R>(std::integral_constant<int, R>) {
      raise_bounds<R>(choice, q.dim, summary, choice.bounds.data());
    });
  }
}

/// The newest page of a head, and those with the largest bounds, newer ones first where they are equal. False: all
/// pages are to be read.
template <class Read, class Format, class Head>
bool choose_pages(const Read& read, const Format& format, const Head& head, const query_rows& q, page_choice& choice) {
  const int want = std::min(read.pages(Format::rows), head.pages()) - 1, older = head.pages() - 1;
  if (want >= older) return false;
  choice.bounds.resize(static_cast<std::size_t>(older));
  find_bounds(
      read, q, [&](int p) { return head.summary(format, p); }, choice);
  choice.pages.clear();
  if (want > 0) {
    choice.ranked = choice.bounds;
    const auto last = choice.ranked.begin() + (want - 1);
    std::nth_element(choice.ranked.begin(), last, choice.ranked.end(), std::greater<>());
    int equal = want - static_cast<int>(std::count_if(choice.bounds.begin(), choice.bounds.end(),
                                                      [&](float x) { return x > *last; }));
    for (int p = older - 1; p >= 0; --p)
      if (const float x = choice.bounds[static_cast<std::size_t>(p)]; x > *last || (x == *last && equal-- > 0))
        choice.pages.push_back(p);
    std::reverse(choice.pages.begin(), choice.pages.end());
  }
  choice.pages.push_back(older);
  return true;
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
