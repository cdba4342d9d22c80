// SPDX-License-Identifier: Apache-2.0
#include <tersekv/evict/knorm.hpp>

#include <tersekv/rotary/rope.hpp>

#include "golden/eviction_fixture.hpp"
#include "laws/evictor.hpp"

namespace kv = tersekv;

namespace knorm_test {

const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 2};

std::vector<int> kept_of(std::vector<float> keys, const kv::knorm& policy) {
  const auto tokens = static_cast<int>(keys.size() / 2);
  test::stream s(shape, tokens);
  s.k[0] = std::move(keys);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, policy);
  auto chat = cache.open();
  test::feed(cache, chat, s, tokens);
  return chat.positions(0, 0);
}

TEST_CASE("knorm obeys the laws of eviction", "[evict]") { laws::evictor(kv::knorm{.rows = 12, .recent = 3}); }

TEST_CASE("knorm keeps the rows of the published fixture", "[evict]") {
  CHECK(golden::kept(kv::knorm{.rows = 8, .recent = 0}) ==
        golden::sets{{4, 7, 8, 9, 11, 12, 14, 15}, {0, 1, 2, 4, 7, 8, 13, 14}});
}

TEST_CASE("knorm lets the largest keys go, recent ones apart", "[evict]") {
  CHECK(kept_of({3, 0, 0, -1, 2, 0}, {.rows = 2, .recent = 0}) == std::vector<int>{1, 2});
  CHECK(kept_of({1, 0, 0, -2, 3, 0}, {.rows = 2, .recent = 1}) == std::vector<int>{0, 2});
  CHECK(kept_of({1e30f, 1e30f, 2e30f, 2e30f, 0, 0}, {.rows = 2, .recent = 0}) ==
        std::vector<int>{0, 2});  // no overflow
}

TEST_CASE("scaling a key up can only make knorm drop it", "[evict]") {
  const auto keys = test::normal(60, 3);
  const auto before = kept_of(keys, {.rows = 9, .recent = 0});
  for (int t = 0; t < 30; ++t) {
    auto larger = keys;
    for (std::size_t c = 0; c < 2; ++c) larger[static_cast<std::size_t>(2 * t) + c] *= 1.7f;
    const auto after = kept_of(larger, {.rows = 9, .recent = 0});
    for (const int p : before)
      if (p != t) CHECK(std::binary_search(after.begin(), after.end(), p));
    if (!std::binary_search(before.begin(), before.end(), t)) CHECK(after == before);
  }
}

TEST_CASE("rotation does not change what knorm keeps", "[evict]") {
  auto keys = test::normal(60, 4), turned = keys;
  std::vector<float> turns(2);
  for (int t = 0; t < 30; ++t) {
    kv::rope{}.angles(t, 2, turns.data());
    kv::rope{}.turn(turned.data() + 2 * t, 2, turns.data());
  }
  CHECK(kept_of(keys, {.rows = 9, .recent = 0}) == kept_of(turned, {.rows = 9, .recent = 0}));
}

TEST_CASE("knorm refuses sizes that cannot work", "[evict]") {
  for (const kv::knorm& wrong :
       {kv::knorm{.rows = 0, .recent = 0}, kv::knorm{.rows = 4, .recent = 5}, kv::knorm{.recent = -1}})
    CHECK_THROWS_AS(kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, wrong), kv::shape_error);
}

}  // namespace knorm_test
