// SPDX-License-Identifier: Apache-2.0
#include <tersekv/evict/snapkv.hpp>

#include "golden/eviction_fixture.hpp"
#include "laws/evictor.hpp"

namespace kv = tersekv;

namespace snapkv_test {

/// Scores of rows that received `mass`, the newest `window` of them being the window.
std::vector<float> scored(const kv::snapkv& policy, const std::vector<float>& mass) {
  std::vector<int> position;
  for (std::size_t i = 0; i < mass.size(); ++i) position.push_back(static_cast<int>(i));
  std::vector<float> out(mass.size());
  kv::scored_head head;
  head.position = position, head.window_attention = mass, head.seen = static_cast<int>(mass.size());
  policy.score(head, out);
  return out;
}

TEST_CASE("snapkv obeys the laws of eviction", "[evict]") {
  laws::evictor(kv::snapkv{.rows = 12, .window = 5, .kernel = 3});
}

TEST_CASE("snapkv keeps the rows of the published fixture", "[evict]") {
  CHECK(golden::kept(kv::snapkv{.rows = 8, .window = 4, .kernel = 1}) ==
        golden::sets{{3, 4, 6, 10, 12, 13, 14, 15}, {5, 6, 7, 9, 12, 13, 14, 15}});
  CHECK(golden::kept(kv::snapkv{.rows = 8, .window = 4, .kernel = 3}) ==
        golden::sets{{2, 3, 4, 5, 12, 13, 14, 15}, {5, 6, 7, 8, 12, 13, 14, 15}});
}

TEST_CASE("snapkv finds the window's queries of a prompt that comes in chunks", "[evict]") {
  auto s = golden::fixture();  // its numbers are exact in 16 bit, as kept queries are
  auto cache =
      kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, kv::snapkv{.rows = 8, .window = 4, .kernel = 3});
  for (const auto& chunks : {std::vector<int>{7, 6, 3}, {13, 1, 1, 1}, {15, 1}}) {
    auto chat = cache.open();
    for (const int n : chunks) test::feed(cache, chat, s, n, {.more = chat.length() + n < 16});
    CHECK(chat.positions(0, 0) == std::vector<int>{2, 3, 4, 5, 12, 13, 14, 15});
    CHECK(chat.positions(0, 1) == std::vector<int>{5, 6, 7, 8, 12, 13, 14, 15});
  }
}

TEST_CASE("pooling shares scores among neighbours before the window, with zeros beyond the edges", "[evict]") {
  const kv::snapkv mean{.rows = 100, .window = 2, .kernel = 3};
  const auto s = scored(mean, {3, 0, 0, 0, 0, 6, 9, 9});
  CHECK(std::vector<float>(s.begin(), s.begin() + 6) == std::vector<float>{1, 1, 0, 0, 2, 2});
  const kv::snapkv max{.rows = 100, .window = 2, .kernel = 3, .pool = kv::snapkv::pooling::max};
  const auto m = scored(max, {3, 0, 0, 0, 0, 6, 9, 9});
  CHECK(std::vector<float>(m.begin(), m.begin() + 6) == std::vector<float>{3, 3, 0, 0, 6, 6});
  const kv::snapkv wide{.rows = 100, .window = 1, .kernel = 7};
  CHECK(scored(wide, {7, 0, 14, 1})[0] == 3);
  CHECK(scored(wide, {7, 0, 14, 1})[1] == 3);
  const kv::snapkv alone{.rows = 100, .window = 2, .kernel = 1};
  CHECK(scored(alone, {5, 1, 3, 2, 2})[2] == 3);
}

TEST_CASE("snapkv with a window of one and no pooling keeps what the newest query looks at, per head", "[evict]") {
  const auto s = golden::fixture();
  const auto kept = golden::kept(kv::snapkv{.rows = 6, .window = 1, .kernel = 1});
  for (int h = 0; h < 2; ++h) {
    std::vector<std::pair<double, int>> row;
    for (int j = 0; j < 15; ++j)
      row.emplace_back(-golden::attention_row(s, 2 * h, 15)[static_cast<std::size_t>(j)] -
                           golden::attention_row(s, 2 * h + 1, 15)[static_cast<std::size_t>(j)],
                       j);
    std::sort(row.begin(), row.end());
    std::vector<int> want{15};
    for (std::size_t i = 0; i < 5; ++i) want.push_back(row[i].second);
    std::sort(want.begin(), want.end());
    CHECK(kept[static_cast<std::size_t>(h)] == want);
  }
}

TEST_CASE("permuting the tokens before the window permutes what snapkv keeps, without pooling", "[evict]") {
  auto s = golden::fixture(), turned = s;
  const auto from = [](int t) { return t < 12 ? (t * 5 + 3) % 12 : t; };
  for (int t = 0; t < 16; ++t) {
    std::copy_n(s.key(0, from(t), 0), 8, turned.k[0].data() + t * 8);
    std::copy_n(s.value(0, from(t), 0), 8, turned.v[0].data() + t * 8);
  }
  auto cache =
      kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, kv::snapkv{.rows = 8, .window = 4, .kernel = 1});
  auto a = cache.open(), b = cache.open();
  test::feed(cache, a, s, 16), test::feed(cache, b, turned, 16);
  for (int h = 0; h < 2; ++h) {
    std::vector<int> origin;
    for (const int p : b.positions(0, h)) origin.push_back(from(p));
    std::sort(origin.begin(), origin.end());
    CHECK(origin == a.positions(0, h));
  }
}

TEST_CASE("snapkv leaves short prompts and decoding alone", "[evict]") {
  auto s = golden::fixture();
  auto cache =
      kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, kv::snapkv{.rows = 9, .window = 2, .kernel = 3});
  auto chat = cache.open();
  test::feed(cache, chat, s, 9);
  for (int t = 9; t < 16; ++t) CHECK(test::worst_error(s, test::feed(cache, chat, s, 1), t, 1) < 1e-5);
  CHECK(chat.rows(0, 0) == 16);
}

TEST_CASE("snapkv refuses windows and kernels that cannot work", "[evict]") {
  for (const kv::snapkv& wrong : {kv::snapkv{.kernel = 4}, kv::snapkv{.kernel = 0}, kv::snapkv{.kernel = -1},
                                  kv::snapkv{.window = 0}, kv::snapkv{.rows = 32}, kv::snapkv{.rows = 0}})
    CHECK_THROWS_AS(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, wrong), kv::shape_error);
  CHECK_NOTHROW(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, kv::snapkv{.rows = 33}));
}

}  // namespace snapkv_test
