// SPDX-License-Identifier: Apache-2.0
#include <tersekv/budget/pyramid.hpp>

#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/snapkv.hpp>

#include "laws/budgeter.hpp"

namespace kv = tersekv;

namespace pyramid_test {

std::vector<int> rows(const kv::pyramid& budget, int mean, int window, int seen, int slots) {
  std::vector<int> out;
  for (int l = 0; l < slots; ++l) out.push_back(budget.rows_of_slot(mean, window, seen, l, slots));
  return out;
}
int sum(const std::vector<int>& x) { return std::accumulate(x.begin(), x.end(), 0); }

TEST_CASE("pyramid obeys the laws of budgets", "[budget]") {
  laws::budgeter(kv::pyramid{}, true);
  laws::budgeter(kv::pyramid{.beta = 2}, true);
}

TEST_CASE("pyramid's whole steps are those of the paper's code", "[budget]") {
  const auto small = rows({.paper = true}, 128, 8, 4096, 32);
  CHECK(small.front() == 234 + 8);
  CHECK(small[1] == 227 + 8);
  CHECK(small.back() == 17 + 8);
  CHECK(sum(small) - 32 * 8 == 4016);
  const auto large = rows({.paper = true}, 2048, 8, 16384, 32);
  CHECK(large.front() == 3978 + 8);
  CHECK(large.back() == 103 + 8);
  CHECK(sum(large) - 32 * 8 == 65296);
}

TEST_CASE("pyramid conserves the total and never rises", "[budget]") {
  for (const int slots : {1, 2, 3, 7, 22, 32, 80})
    for (const int mean : {9, 33, 100, 128, 513, 2048})
      for (const int window : {0, 8, 31})
        for (const int beta : {1, 2, 20, 1000})
          for (const int seen : {100, 130, 199, 230, 4096, 40000}) {
            const auto r = rows({.beta = beta}, mean, window, seen, slots);
            CAPTURE(slots, mean, window, beta, seen);
            CHECK(sum(r) == slots * mean);
            CHECK(std::is_sorted(r.rbegin(), r.rend()));
            CHECK(r.back() >= std::min(mean, window));
          }
  const auto exact = rows({}, 128, 8, 4096, 32);
  CHECK(exact.front() == 234 + 8);
  CHECK(exact.back() == 6 + 8);
}

TEST_CASE("pyramid with one step for all, one slot or a short prompt is uniform", "[budget]") {
  CHECK(rows({.beta = 1}, 100, 8, 4096, 5) == std::vector<int>(5, 100));
  CHECK(rows({}, 100, 8, 4096, 1) == std::vector<int>{100});
  CHECK(rows({.paper = true}, 100, 8, 4096, 1) == std::vector<int>{100});
  CHECK(rows({}, 100, 8, 2 * 92 - 1, 5) == std::vector<int>(5, 100));
  CHECK(rows({}, 8, 8, 4096, 5) == std::vector<int>(5, 8));
  CHECK(rows({}, 5, 8, 4096, 5) == std::vector<int>(5, 5));
}

TEST_CASE("pyramid gives the first slot no more than the prompt has", "[budget]") {
  // b = 92, min 4, max 180; of 185 tokens 177 are before the window
  CHECK(rows({}, 100, 8, 185, 3) == std::vector<int>{185, 100, 15});
  CHECK(rows({}, 100, 8, 188, 3) == std::vector<int>{188, 100, 12});
  CHECK(rows({}, 100, 8, 189, 3) == std::vector<int>{188, 100, 12});
}

TEST_CASE("pyramid shapes the slots of a cache, and uniform steps are plain snapkv", "[budget]") {
  const kv::model_shape shape{.layers = 3, .query_heads = 4, .kv_heads = 2, .head_dim = 6};
  test::stream s(shape, 90);
  const kv::snapkv policy{.rows = 20, .window = 4, .kernel = 3};
  auto falling = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, policy, kv::pyramid{.beta = 4});
  auto even = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, policy, kv::pyramid{.beta = 1});
  auto plain = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, policy);
  auto a = falling.open(), b = even.open();
  auto c = plain.open();
  test::feed(falling, a, s, 80), test::feed(even, b, s, 80), test::feed(plain, c, s, 80);
  const int expected[] = {32, 20, 8};  // b = 16, min 4, max 28
  for (int l = 0; l < 3; ++l)
    for (int h = 0; h < 2; ++h) {
      CHECK(a.rows(l, h) == expected[l]);
      CHECK(b.positions(l, h) == c.positions(l, h));
      const auto more = a.positions(l == 0 ? 0 : l, h), fewer = l == 0 ? c.positions(l, h) : a.positions(l, h);
      CHECK(std::includes(more.begin(), more.end(), fewer.begin(), fewer.end()));
      for (int p = 76; p < 80; ++p) CHECK(a.positions(l, h)[static_cast<std::size_t>(expected[l] - 80 + p)] == p);
    }
}

TEST_CASE("pyramid keeps its shape while h2o decodes", "[budget]") {
  const kv::model_shape shape{.layers = 3, .query_heads = 2, .kv_heads = 1, .head_dim = 6};
  test::stream s(shape, 120);
  auto cache =
      kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 10, .recent = 6}, kv::pyramid{.beta = 5});
  auto chat = cache.open();
  for (int t = 0; t < 120; ++t) {
    test::feed(cache, chat, s, 1);
    if (t + 1 <= 16) CHECK(chat.rows(2, 0) == t + 1);  // uniform, and not full
    CHECK(chat.rows(0, 0) + chat.rows(1, 0) + chat.rows(2, 0) <= 3 * 16);
    CHECK(chat.rows(2, 0) >= std::min(t + 1, 6));
  }
  CHECK(chat.rows(2, 0) == 8);  // b = 10, min 2, max 18
  CHECK(chat.rows(1, 0) == 16);
  CHECK(chat.rows(0, 0) <= 24);
}

TEST_CASE("pyramid refuses a shape without a base", "[budget]") {
  CHECK_THROWS_AS(kv::make_cache({.layers = 3, .kv_heads = 1, .head_dim = 6}, kv::cpu{}, kv::dense<float>{},
                                 kv::h2o{.heavy = 10, .recent = 6}, kv::pyramid{.beta = 0}),
                  kv::shape_error);
}

}  // namespace pyramid_test
