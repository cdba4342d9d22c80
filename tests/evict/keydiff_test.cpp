// SPDX-License-Identifier: Apache-2.0
#include <tersekv/evict/keydiff.hpp>

#include "golden/eviction_fixture.hpp"
#include "laws/evictor.hpp"

namespace kv = tersekv;

namespace keydiff_test {

std::vector<float> scored(const std::vector<float>& keys, int dim) {
  std::vector<float> out(keys.size() / static_cast<std::size_t>(dim));
  kv::scored_head head;
  head.keys = keys, head.key_dim = dim;
  kv::keydiff{}.score(head, out);
  return out;
}

TEST_CASE("keydiff obeys the laws of eviction", "[evict]") { laws::evictor(kv::keydiff{.rows = 12, .recent = 3}); }

TEST_CASE("keydiff keeps the rows of the published fixture", "[evict]") {
  CHECK(golden::kept(kv::keydiff{.rows = 8, .recent = 0}) ==
        golden::sets{{1, 2, 4, 6, 9, 10, 11, 13}, {2, 7, 9, 10, 12, 13, 14, 15}});
}

TEST_CASE("keydiff scores a key by its angle to the mean direction", "[evict]") {
  const auto s = scored({1, 0, 1, 0, 1, 0, 0, 1}, 2);
  for (std::size_t j = 0; j < 3; ++j) CHECK(s[j] == Approx(-.9487).margin(5e-5));
  CHECK(s[3] == Approx(-.3162).margin(5e-5));
  auto keys = test::normal(80, 5);
  const auto before = scored(keys, 4);
  for (std::size_t c = 0; c < 4; ++c) keys[12 + c] *= 1000, keys[40 + c] *= 1e-3f;
  const auto after = scored(keys, 4);
  for (std::size_t j = 0; j < before.size(); ++j) CHECK(after[j] == Approx(before[j]).margin(1e-6));
}

TEST_CASE("zero keys and keys that cancel each other have a score", "[evict]") {
  for (const float x : scored({0, 0, 0, 0, 0, 0}, 2)) CHECK(x == 0);
  for (const float x : scored({1, 0, -1, 0}, 2)) CHECK(x == 0);
  const auto s = scored({0, 0, 1, 0, 1, 0}, 2);
  CHECK(s[0] == 0);
  CHECK(s[1] == Approx(-1));
  for (const float x : scored({1e30f, 1e30f, 1e-30f, 0}, 2)) CHECK(std::isfinite(x));
}

TEST_CASE("keydiff trims after every chunk of a prompt", "[evict]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 6};
  test::stream s(shape, 60);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::keydiff{.rows = 10, .recent = 2});
  auto chat = cache.open();
  std::vector<int> held;
  for (int t = 0; t < 60; t += 15) {
    test::feed(cache, chat, s, 15, {.more = t < 45});
    CHECK(chat.rows(0, 0) == 10);
    for (int p = t; p < t + 15; ++p) held.push_back(p);
    std::vector<float> keys;  // what stays is the best of what was held and the block
    for (const int p : held) keys.insert(keys.end(), s.key(0, p, 0), s.key(0, p, 0) + 6);
    const auto score = scored(keys, 6);
    std::vector<std::pair<float, int>> order;
    for (std::size_t i = 0; i + 2 < held.size(); ++i) order.emplace_back(-score[i], held[i]);
    std::sort(order.begin(), order.end());
    std::vector<int> want{t + 13, t + 14};
    for (std::size_t i = 0; i < 8; ++i) want.push_back(order[i].second);
    std::sort(want.begin(), want.end());
    held = chat.positions(0, 0);
    CHECK(held == want);
  }
  auto block = cache.open(), once = cache.open();
  test::feed(cache, block, s, 30, {.more = true});
  test::feed(cache, once, s, 30);
  CHECK(block.positions(0, 0) == once.positions(0, 0));
}

TEST_CASE("keydiff refuses sizes that cannot work", "[evict]") {
  for (const kv::keydiff& wrong :
       {kv::keydiff{.rows = 0, .recent = 0}, kv::keydiff{.rows = 4, .recent = 5}, kv::keydiff{.recent = -1}})
    CHECK_THROWS_AS(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, wrong), kv::shape_error);
}

}  // namespace keydiff_test
