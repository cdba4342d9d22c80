// SPDX-License-Identifier: Apache-2.0
#include <tersekv/evict/tova.hpp>

#include <numeric>

#include "golden/eviction_fixture.hpp"
#include "laws/evictor.hpp"

namespace kv = tersekv;

TEST_CASE("tova obeys the laws of eviction", "[evict]") { laws::evictor(kv::tova{.rows = 12}); }

TEST_CASE("tova keeps the rows of the published fixture, one set for both heads", "[evict]") {
  const std::vector<int> set{1, 3, 4, 5, 6, 9, 13, 14};
  CHECK(golden::kept(kv::tova{.rows = 8}) == golden::sets{set, set});
}

TEST_CASE("tova drops the row with the smallest mean over all heads", "[evict]") {
  std::vector<kv::trim_head> heads(2);
  for (auto& head : heads) head.position = {0, 1, 2, 3};
  heads[0].last_attention = {.2f, .3f, .1f, .4f};  // alone, this head would drop row 2
  heads[1].last_attention = {0, .3f, .3f, .4f};    // means .1 .3 .2 .4
  kv::trim_context context{.seen = 4};
  kv::decide(kv::tova{.rows = 3}, kv::uniform{}, context, std::span<kv::trim_head>(heads), true);
  for (const auto& head : heads) CHECK(head.keep == std::vector<unsigned char>{0, 1, 1, 1});
  heads[0].last_attention = {.4f, .1f, .3f, .2f};
  heads[1].last_attention = {.1f, .3f, .2f, .4f};  // means .25 .2 .25 .3
  kv::decide(kv::tova{.rows = 2}, kv::uniform{}, context, std::span<kv::trim_head>(heads), true);
  for (const auto& head : heads) CHECK(head.keep == std::vector<unsigned char>{0, 0, 1, 1});  // of equals the newer
}

TEST_CASE("tova may let even the newest row go", "[evict]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8};
  test::stream s(shape, 12);
  for (int c = 0; c < 8; ++c) s.k[0][static_cast<std::size_t>(11 * 8 + c)] = 0;
  for (int h = 0; h < 2; ++h)
    for (int c = 0; c < 8; ++c) {
      float sum = 0;  // the newest query looks along the mean of the older keys
      for (int t = 0; t < 11; ++t)
        sum += s.k[0][static_cast<std::size_t>(t * 8 + c)] = 1 + std::abs(s.k[0][static_cast<std::size_t>(t * 8 + c)]);
      s.q[0][static_cast<std::size_t>((11 * 2 + h) * 8 + c)] = sum / 11;
    }
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::tova{.rows = 11});
  auto chat = cache.open();
  test::feed(cache, chat, s, 12);
  std::vector<int> older(11);
  std::iota(older.begin(), older.end(), 0);
  CHECK(chat.positions(0, 0) == older);
}

TEST_CASE("tova keeps the same rows per head and per layer when the heads are identical", "[evict]") {
  const kv::model_shape one{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8};
  const kv::model_shape twice{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream s(one, 60), d(twice, 60);
  for (int t = 0; t < 60; ++t)
    for (int h = 0; h < 2; ++h) {
      std::copy_n(s.key(0, t, 0), 8, d.k[0].data() + (t * 2 + h) * 8);
      std::copy_n(s.value(0, t, 0), 8, d.v[0].data() + (t * 2 + h) * 8);
      std::copy_n(s.query(0, t, 0), 16, d.q[0].data() + (t * 4 + 2 * h) * 8);
    }
  auto single = kv::make_cache(one, kv::cpu{}, kv::dense<float>{}, kv::tova{.rows = 9});
  auto both = kv::make_cache(twice, kv::cpu{}, kv::dense<float>{}, kv::tova{.rows = 9});
  auto a = single.open(), b = both.open();
  for (const int n : {30, 1, 1, 1, 20, 1}) {
    test::feed(single, a, s, n), test::feed(both, b, d, n);
    CHECK(a.positions(0, 0) == b.positions(0, 0));
    CHECK(a.positions(0, 0) == b.positions(0, 1));
  }
}

TEST_CASE("tova does the same for a prompt within its rows, fed at once or token by token", "[evict]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream s(shape, 70);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::tova{.rows = 20});
  auto a = cache.open(), b = cache.open();
  test::feed(cache, a, s, 20);
  for (int t = 0; t < 20; ++t) test::feed(cache, b, s, 1);
  for (int t = 20; t < 70; ++t) {
    test::feed(cache, a, s, 1), test::feed(cache, b, s, 1);
    for (int l = 0; l < 2; ++l) CHECK(a.positions(l, 0) == b.positions(l, 0));
  }
}

TEST_CASE("tova refuses to keep nothing", "[evict]") {
  CHECK_THROWS_AS(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, kv::tova{.rows = 0}), kv::shape_error);
}
