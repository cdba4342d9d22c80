// SPDX-License-Identifier: Apache-2.0
#include <tersekv/backend/cpu/page_choice.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory_resource>
#include <random>

#include "support.hpp"

#include "catch.hpp"

namespace kv = tersekv;
using namespace kv::detail;

namespace page_choice_test {

constexpr int page_rows = 32;
struct page_format {
  static constexpr int rows = page_rows;
};

/// Pages of a head, as summaries and as extremes.
struct head_of_pages {
  head_of_pages(int count, int dim) : dim(dim), count(count), all(owner) { all.reserve(count, dim); }
  /// The next page: the keys of its rows.
  void add(const std::vector<float>& keys) {
    auto& s = summaries.emplace_back(kv::quest{}.bytes(dim));
    kv::quest{}.summarize(s.data(), keys.data(), static_cast<int>(keys.size()) / dim, dim, true);
    all.set(kv::quest{}, static_cast<int>(summaries.size()) - 1, s.data(), dim);
    if (summaries.size() == kv::page_extremes::pages)
      all.centre(
          kv::quest{}, [&](int p) { return summary({}, p); }, dim);
  }
  int pages() const { return count; }
  const std::byte* summary(const page_format&, int p) const { return summaries[static_cast<std::size_t>(p)].data(); }
  const std::byte* entry(int p) const { return summary({}, p); }
  const kv::page_extremes& extremes() const { return all; }

  int dim, count;
  kv::pool owner{std::pmr::get_default_resource(), 64, 0};
  kv::page_extremes all;
  std::vector<std::vector<std::byte>> summaries;
};

/// Keys of several kinds: alike, with large channels, far from zero, very small and very large ones, beyond 16 bit.
std::vector<float> keys_of(int kind, int dim, unsigned seed) {
  constexpr float size[] = {1, 1, 1, 1e-7f, 3e4f, 5e4f};
  auto x = test::normal(static_cast<std::size_t>(8 * dim), seed, size[kind]);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto c = i % static_cast<std::size_t>(dim);
    if (kind == 1 && c % 11 == 3) x[i] *= 50;
    if (kind == 2) x[i] += static_cast<float>(c % 5) * 20 - 40;
  }
  return x;
}

constexpr int kinds = 6;

TEST_CASE("reached_by: the n largest, no others", "[backend]") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::mt19937 random(3);
  unsigned seed = 0;
  std::vector<std::int32_t> memory;
  for (const std::size_t size : {1, 2, 15, 16, 17, 100, 1023})
    for (const bool many : {true, false})  // different numbers
      for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{random() % 100}, size}) {
        if (n < 1 || n > size) continue;
        CAPTURE(size, many, n);
        auto x = test::normal(size, ++seed, 1e3f);
        for (float& y : x) {
          if (!many) y = std::round(y / 500);  // of both signs, both zeros too
          if (random() % 40 == 0) y = random() % 2 == 0 ? infinity : -infinity;
          if (random() % 40 == 0) y = 1e-42f;
        }
        const float found = reached_by(static_cast<int>(n), x, memory);
        std::sort(x.begin(), x.end(), std::greater<>());
        CHECK(found <= x[n - 1]);
        if (n < size && x[n] < x[n - 1]) CHECK(found > x[n]);
        if (n < size && x[n] == x[n - 1]) CHECK(found == x[n]);
      }
}

TEST_CASE("bounds lie in the ranges that extremes in 8 bits give", "[backend]") {
  constexpr int pages = 150;
  for (const int dim : {1, 7, 32, 41, 128, 320, 1024})
    for (int kind = 0; kind < kinds; ++kind) {
      CAPTURE(dim, kind);
      head_of_pages head(pages, dim);
      for (unsigned p = 0; p < pages; ++p) head.add(keys_of(kind, dim, p));
      for (const int count : {1, 4, 8, 11}) {
        auto q = test::normal(static_cast<std::size_t>(count * dim), 77 + static_cast<unsigned>(count));
        q[0] *= count == 4 ? 100.0f : 0.0f;  // one large number; a zero
        bound_ranges ranges;
        page_choice choice;
        for (const int some : {1, 31, 32, 33, pages}) {
          ranges.clear(some);
          const query_rows rows{q.data(), count, dim, dim};
          for_each_pass(rows, choice, [&]<int R>() {
            raise_ranges<R>(head.all, some, dim, choice.positive.data()->of, choice.negative.data()->of, ranges);
          });
          choice.bounds.resize(static_cast<std::size_t>(some));
          find_bounds(
              kv::quest{}, rows, [&](int p) { return head.summary({}, p); }, choice);
          for (std::size_t p = 0; p < choice.bounds.size(); ++p) {
            if (std::isinf(choice.bounds[p])) continue;
            REQUIRE(ranges.lowest[p] <= choice.bounds[p]);
            REQUIRE(ranges.highest[p] >= choice.bounds[p]);
          }
        }
      }
    }
}

TEST_CASE("a query whose bound is not a number hides no other query's", "[backend]") {
  constexpr int dim = 16;
  std::vector<float> keys(2 * dim), q(2 * dim, 0.0f);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = i % 2 == 0 ? -6e4f : 6e4f;
  std::fill_n(q.begin(), dim, 1e36f);  // infinite in both directions
  q[dim + 1] = 1;
  head_of_pages head(1, dim);
  head.add(keys);
  page_choice choice;
  choice.bounds.resize(1);
  find_bounds(
      kv::quest{}, {q.data(), 2, dim, dim}, [&](int p) { return head.summary({}, p); }, choice);
  CHECK(choice.bounds[0] == Approx(6e4f));
}

TEST_CASE("ranges leave few pages to look at", "[backend]") {
  constexpr int dim = 128, pages = 1000, want = 60;
  for (const int kind : {0, 1, 2}) {
    CAPTURE(kind);
    head_of_pages head(pages, dim);
    for (unsigned p = 0; p < pages; ++p) head.add(keys_of(kind, dim, p));
    const auto q = test::normal(4 * dim, 5);
    page_choice choice;
    find_candidates(head, {q.data(), 4, dim, dim}, want, pages, choice);
    const std::size_t open = choice.pages.size(), certain = choice.certain.size();
    CHECK(certain <= want);
    CHECK(open + certain >= want);
    CHECK(open + certain < (kind == 0 ? 3 * want / 2 : 4 * want));
    if (kind == 0) CHECK(open < want);
  }
}

TEST_CASE("pages are chosen as if all bounds were known", "[backend]") {
  std::mt19937 random(1);
  unsigned seed = 0;
  for (const int dim : {6, 64, 128})
    for (int kind = 0; kind < kinds; ++kind)
      for (const int pages : {2, 3, 40, 200})
        for (const int count : {1, 3, 4, 8}) {
          head_of_pages head(pages, dim);
          for (int p = 0; p < pages; ++p)  // some are equal, some all zero
            head.add(p % 9 == 5 ? std::vector<float>(static_cast<std::size_t>(dim))
                                : keys_of(kind, dim, static_cast<unsigned>(p % 7 == 3 ? 3 : p)));
          auto q = test::normal(static_cast<std::size_t>(count * dim), ++seed);
          if (count == 3) std::fill(q.begin(), q.begin() + dim, 0.0f);
          if (count == 1 && pages == 3) std::fill(q.begin(), q.end(), 0.0f);
          const kv::quest read{.rows = page_rows * (1 + static_cast<int>(random() % static_cast<unsigned>(pages)))};
          CAPTURE(dim, kind, pages, count, read.rows);
          page_choice choice;
          const query_rows rows{q.data(), count, dim, dim};
          const int want = read.rows / page_rows - 1;
          REQUIRE(choose_pages(read, page_format{}, head, rows, choice) == (want < pages - 1));
          if (want >= pages - 1) continue;
          page_choice all;
          all.bounds.resize(static_cast<std::size_t>(pages - 1));
          find_bounds(
              read, rows, [&](int p) { return head.summary({}, p); }, all);
          std::vector<int> order;
          for (int p = 0; p < pages - 1; ++p) order.push_back(p);
          std::sort(order.begin(), order.end(), [&](int a, int b) {
            const float x = all.bounds[static_cast<std::size_t>(a)], y = all.bounds[static_cast<std::size_t>(b)];
            return x != y ? x > y : a > b;
          });
          std::vector<int> expected(order.begin(), order.begin() + want);
          expected.push_back(pages - 1);
          std::sort(expected.begin(), expected.end());
          CHECK(choice.pages == expected);
        }
}

}  // namespace page_choice_test
