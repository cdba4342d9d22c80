// SPDX-License-Identifier: Apache-2.0
#include <tersekv/read/quest.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory_resource>
#include <set>

#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/head_rows.hpp>

#include "golden/eviction_fixture.hpp"

#include "catch.hpp"

namespace kv = tersekv;

namespace quest_test {

struct summary {
  alignas(16) std::array<std::byte, 4096> bytes{};
};

summary of(const std::vector<float>& keys, int dim) {
  summary s;
  kv::quest{}.summarize(s.bytes.data(), keys.data(), static_cast<int>(keys.size()) / dim, dim, true);
  return s;
}
float bound(const std::vector<float>& q, const summary& s) {
  return kv::quest{}.bound(q.data(), 1, 0, s.bytes.data(), static_cast<int>(q.size()));
}
float dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int c = 0; c < n; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return static_cast<float>(sum);
}

/// The rows of a head, changed as commits change them.
template <class Codec>
struct summarized_head {
  using format_type = kv::page_format<Codec, kv::quest>;
  static constexpr int dim = 32, span = format_type::span;

  void append(int count) {
    const auto k = test::normal(static_cast<std::size_t>(count * dim), ++seed), v = test::normal(k.size(), 99);
    head.reserve(format, count, 0, 0, head.pages_to_pack(count));
    memory.reserve(static_cast<std::size_t>(head.pages_to_pack(count)));
    for (int i = 0; i < count; ++i) head.push_columns(head.slots(), nullptr);
    head.pack(memory, format, k.data(), v.data(), count);
  }
  void remove(int first, int last, int every = 1) {
    std::vector<int> leave;
    for (int i = first; i < last; i += every) leave.push_back(i);
    head.remove(format, leave);
    head.compact(memory, format, static_cast<int>(leave.size()));
    head.fit(static_cast<int>(leave.size()));
  }
  void rewrite(int i) {
    const std::vector<float> row(dim, 1000.0f);
    memory.reserve(head.shared(i) ? 1 : 0);
    head.rewrite(memory, format, i, row.data(), row.data());
  }
  void check() const { check(head); }
  void check(const kv::head_rows<format_type, 0, false>& rows) const {
    constexpr int pages = kv::page_extremes::pages;
    const kv::page_extremes& all = rows.extremes();
    std::vector<float> least(dim), most(dim), x(dim), y(dim);
    for (int p = 0; p + 1 < rows.pages(); ++p) {  // the newest page has none
      CAPTURE(p);
      format.read.extremes(format.summary(rows.page(p)), dim, least.data(), most.data());
      kv::page_extremes::packed.decode(all.most(p / pages, dim), pages, p % pages, 1, dim, x.data());
      kv::page_extremes::packed.decode(all.least(p / pages, dim), pages, p % pages, 1, dim, y.data());
      float error = 0;
      for (int c = 0; c < dim; ++c) {
        const auto i = static_cast<std::size_t>(c);
        const float above = x[i] + kv::to_float(all.origin()[c]) - most[i];
        const float below = y[i] + kv::to_float(all.origin()[dim + c]) - least[i];
        error += std::max(above * above, below * below);
      }
      const float said = all.error(p / pages, dim)[p % pages];
      CHECK(std::sqrt(error) <= said);
      CHECK(said < 0.01f * (1 + *std::max_element(most.begin(), most.end())));
    }
  }

  format_type format{Codec{}, kv::quest{}, dim, dim};
  kv::pool memory{std::pmr::get_default_resource(), format.bytes(), 0};
  kv::head_rows<format_type, 0, false> head{memory};
  unsigned seed = 0;
};

TEST_CASE("a page's bound is the product with its most attractive corner", "[read]") {
  CHECK(bound({2, -1}, of({1, -2, 3, 0}, 2)) == 8);
  CHECK(bound({0, 0}, of({1, -2, 3, 0}, 2)) == 0);
  CHECK(bound({-1, 1}, of({1, -2}, 2)) == -3);
}

TEST_CASE("no key of a page exceeds the bound", "[read]") {
  for (const float sigma : {1e-7f, 1e-3f, 1.0f, 300.0f})
    for (const int dim : {1, 3, 8, 33})
      for (unsigned seed = 0; seed < 20; ++seed) {
        const auto keys = test::normal(static_cast<std::size_t>(16 * dim), seed, sigma);
        const auto s = of(keys, dim);
        const auto q = test::normal(static_cast<std::size_t>(dim), 100 + seed);
        double size = 0;
        for (const float x : q) size += std::abs(static_cast<double>(x) * static_cast<double>(sigma));
        for (int j = 0; j < 16; ++j)
          CHECK(bound(q, s) >= dot(q.data(), keys.data() + j * dim, dim) - 1e-6f * static_cast<float>(size));
        for (int c = 0; c < dim; ++c) {  // along one channel, without rounding of sums
          std::vector<float> axis(static_cast<std::size_t>(dim), 0.0f);
          for (const float sign : {1.0f, -1.0f}) {
            axis[static_cast<std::size_t>(c)] = sign;
            for (int j = 0; j < 16; ++j) CHECK(bound(axis, s) >= sign * keys[static_cast<std::size_t>(j * dim + c)]);
          }
        }
      }
  CHECK(bound({1}, of({70000}, 1)) >= 70000);  // beyond 16 bit
  CHECK(bound({-1}, of({-70000}, 1)) >= 70000);
  CHECK(bound({0, 1}, of({70000, 2}, 2)) == 2);
  CHECK(bound({1}, of({1e-9f}, 1)) >= 1e-9f);
  CHECK(bound({-1}, of({1e-9f}, 1)) >= -1e-9f);
}

TEST_CASE("the kernel finds the bounds that the policy defines", "[read]") {
  constexpr int pages = 20;
  for (const int dim : {1, 7, 16, 33, 96, 128})
    for (const int count : {1, 2, 3, 4, 7, 8, 13})
      for (const float sigma : {1e-3f, 1.0f, 4e4f}) {  // the last one has keys beyond 16 bit
        CAPTURE(dim, count, sigma);
        std::vector<summary> all;
        for (unsigned p = 0; p < pages; ++p)
          all.push_back(of(test::normal(static_cast<std::size_t>(8 * dim), p, sigma), dim));
        auto q = test::normal(static_cast<std::size_t>(count * dim), 77);
        q[0] = 0;
        kv::detail::page_choice choice;
        choice.bounds.resize(pages);
        kv::detail::find_bounds(
            kv::quest{}, {q.data(), count, dim, dim},
            [&](int p) { return all[static_cast<std::size_t>(p)].bytes.data(); }, choice);
        for (std::size_t p = 0; p < pages; ++p) {
          const float want = kv::quest{}.bound(q.data(), count, dim, all[p].bytes.data(), dim);
          if (std::isinf(want))
            CHECK(choice.bounds[p] == want);
          else
            CHECK(std::abs(choice.bounds[p] - want) <=
                  1e-6f * std::max(std::abs(want), sigma * static_cast<float>(dim)));
        }
      }
}

TEST_CASE("a summary that grows row by row is the summary of all rows", "[read]") {
  const auto keys = test::normal(32 * 7, 3);
  summary grown = of(test::normal(7, 9, 100.0f), 7);  // what a reused page held before is forgotten
  for (int j = 0; j < 32; ++j) kv::quest{}.summarize(grown.bytes.data(), keys.data() + j * 7, 1, 7, j == 0);
  CHECK(grown.bytes[0] == of(keys, 7).bytes[0]);
  CHECK(std::equal(grown.bytes.begin(), grown.bytes.begin() + 28, of(keys, 7).bytes.begin()));
}

TEST_CASE("rows round up to pages, and one page is always read", "[read]") {
  CHECK(kv::quest{.rows = 1024}.pages(32) == 32);
  CHECK(kv::quest{.rows = 1025}.pages(32) == 33);
  CHECK(kv::quest{.rows = 1}.pages(32) == 1);
  CHECK(kv::quest{.rows = std::numeric_limits<int>::max()}.pages(32) == (1 << 26));
  CHECK(kv::quest{}.bytes(64) == 256);
}

TEST_CASE("pages of one row rank as exact attention does", "[read]") {
  const auto s = golden::fixture();
  for (int h = 0; h < 4; ++h)
    for (int j = 0; j < 16; ++j) {
      const float* key = s.key(0, j, h / 2);
      CHECK(bound({s.query(0, 15, h), s.query(0, 15, h) + 4}, of({key, key + 4}, 4)) == dot(s.query(0, 15, h), key, 4));
    }
}

TEST_CASE("the bounds of the published fixture, pages of four rows", "[read]") {
  const auto s = golden::fixture();
  const float expected[4][3] = {{1.25f, 4.25f, 3.5f}, {5.25f, 4.25f, 1.5f}, {4.5f, 4.5f, 5}, {2.5f, 3.5f, 2.75f}};
  for (int h = 0; h < 4; ++h)
    for (int p = 0; p < 3; ++p) {
      std::vector<float> keys;
      for (int j = 4 * p; j < 4 * p + 4; ++j) keys.insert(keys.end(), s.key(0, j, h / 2), s.key(0, j, h / 2) + 4);
      CHECK(bound({s.query(0, 15, h), s.query(0, 15, h) + 4}, of(keys, 4)) == expected[h][p]);
    }
}

TEST_CASE("one query reads the newest page and the most attractive ones, by the largest bound of its group", "[read]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 6};
  test::stream s(shape, 220, 3);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::quest{.rows = 96});
  constexpr int page = decltype(cache)::page_rows;
  static_assert(page == 32);
  auto chat = cache.open();
  CHECK(test::worst_error(s, test::feed(cache, chat, s, 70), 0, 70) < 1e-5);  // long steps read everything
  for (int t = 70; t < 95; ++t) CHECK(test::worst_error(s, test::feed(cache, chat, s, 1), t, 1) < 1e-5);  // three pages
  test::feed(cache, chat, s, 100);
  std::set<int> chosen;
  for (int t = 195; t < 220; ++t) {
    const auto out = test::feed(cache, chat, s, 1);
    for (int h = 0; h < 2; ++h) {
      const int pages = (t + page - 1) / page;
      std::vector<std::pair<float, int>> order;
      for (int p = 0; p + 1 < pages; ++p) {
        float best = -std::numeric_limits<float>::infinity();
        for (const int q : {2 * h, 2 * h + 1}) {
          float u = 0;
          for (int c = 0; c < 6; ++c) {
            float least = 1e9f, most = -1e9f;
            for (int j = p * page; j < (p + 1) * page; ++j)
              least = std::min(least, s.key(0, j, h)[c]), most = std::max(most, s.key(0, j, h)[c]);
            u += std::max(s.query(0, t, q)[c] * least, s.query(0, t, q)[c] * most);
          }
          best = std::max(best, u);
        }
        order.emplace_back(-best, p);
      }
      std::sort(order.begin(), order.end());
      std::set<int> read{pages - 1, order[0].second, order[1].second};
      chosen.insert(order[0].second);
      std::vector<int> rows;
      for (int p = 0; p < t; ++p)
        if (read.count(p / page)) rows.push_back(p);
      rows.push_back(t);
      for (const int q : {2 * h, 2 * h + 1}) {
        const auto want = test::exact(s, 0, t, q, rows);
        CHECK(test::relative_error(out[0].data() + q * 6, want.data(), 6) < 1e-5);
      }
    }
  }
  CHECK(chosen.size() > 1);
}

TEST_CASE("quest with as many rows as the cache holds is dense attention", "[read]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 7};
  test::stream s(shape, 200);
  auto all = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::quest{.rows = 200});
  auto dense = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{});
  auto a = all.open();
  auto b = dense.open();
  CHECK(test::feed(all, a, s, 150) == test::feed(dense, b, s, 150));
  for (int t = 150; t < 200; ++t) CHECK(test::feed(all, a, s, 1) == test::feed(dense, b, s, 1));
}

TEST_CASE("summaries follow the keys that the codec reads back, and pages whose rows leave", "[read]") {
  const kv::quest read;
  const kv::page_format<kv::int4<>, kv::quest> format(kv::int4<>{}, read, 32, 32);
  std::vector<std::byte> page(format.bytes() + 64);
  void* place = page.data();
  std::size_t room = page.size();
  auto* bytes = static_cast<std::byte*>(std::align(64, format.bytes(), place, room));
  const auto keys = test::normal(32 * 32, 4), values = test::normal(32 * 32, 5);
  for (int r = 0; r < 32; r += 8) format.encode(bytes, r, 8, keys.data() + r * 32, values.data() + r * 32);
  std::vector<float> back(32 * 32);
  format.decode_keys(bytes, 0, 32, back.data());
  const auto want = of(back, 32);
  CHECK(std::equal(want.bytes.begin(), want.bytes.begin() + 128, format.summary(bytes)));

  // one page is wanted; the page that would attract most has lost its attractive row, and the others close up
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 4};
  test::stream s(shape, 150);
  auto thin =
      kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 70, .recent = 30}, kv::quest{.rows = 150});
  auto plain = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 70, .recent = 30});
  auto a = thin.open();
  auto b = plain.open();
  for (const int n : {120, 1, 1, 20, 1, 1}) CHECK(test::feed(thin, a, s, n) == test::feed(plain, b, s, n));
  CHECK(a.positions(0, 0) == b.positions(0, 0));
}

TEST_CASE("extremes that lie together are those of the pages, whatever becomes of the pages", "[read]") {
  summarized_head<kv::dense<kv::half>> a;
  a.append(70), a.check();
  for (int i = 0; i < 40; ++i) a.append(1), a.check();
  a.append(1200), a.check();
  REQUIRE(a.head.pages() == 41);
  auto fork = a.head;
  a.rewrite(3), a.rewrite(75), a.append(1), a.check(), a.check(fork);
  a.remove(32, 96);  // two pages in the middle
  REQUIRE(a.head.pages() == 39);
  a.check();
  a.remove(2, 300, 7);  // holes are closed
  REQUIRE(a.head.pages() == 38);
  a.check(), a.check(fork);
  a.remove(a.head.packed() - 70, a.head.packed());  // the newest pages
  a.append(100), a.check();
  const std::size_t held = a.head.column_bytes();
  a.remove(0, 900);  // and what is not used is given back
  a.append(5), a.check();
  CHECK(a.head.column_bytes() + kv::page_extremes::tile_bytes(a.dim) <= held);

  summarized_head<kv::kivi<2, 32, 0>> b;  // groups that span rows: pages are joined
  b.append(4 * b.span);
  b.remove(0, 2 * b.span, 2);
  REQUIRE(b.head.pages() == 3);
  b.check();
  b.append(2 * b.span), b.check();
}

TEST_CASE("extremes are counted where the report counts page lists", "[read]") {
  test::counting_resource memory;
  kv::cpu backend;
  backend.memory = &memory;
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 64};
  test::stream s(shape, 640);
  auto cache = kv::make_cache(shape, backend, kv::dense<kv::half>{}, kv::quest{});
  auto plain = kv::make_cache(shape, kv::cpu{}, kv::dense<kv::half>{});
  auto a = cache.open();
  auto b = plain.open();
  test::feed(cache, a, s, 640), test::feed(plain, b, s, 640);
  CHECK(a.report().column_bytes == b.report().column_bytes + 2 * 2 * 64 + kv::page_extremes::tile_bytes(64));
  CHECK(memory.held == a.report().bytes);
}

TEST_CASE("quest refuses to read nothing", "[read]") {
  CHECK_THROWS_AS(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, kv::quest{.rows = 0}), kv::shape_error);
}

}  // namespace quest_test
