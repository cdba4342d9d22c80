// SPDX-License-Identifier: Apache-2.0
#include <tersekv/share/yoco.hpp>

#include <tersekv/share/layer_map.hpp>

#include "laws/sharer.hpp"

namespace kv = tersekv;

TEST_CASE("yoco has windowed slots below and one slot of all tokens above", "[share]") {
  CHECK(kv::yoco{}.plan(22).text() == "0s_1s_2s_3s_4s_5s_6s_7s_8s_9s_10s_11_11_11_11_11_11_11_11_11_11_11");
  CHECK(kv::yoco{}.plan(5).text() == "0s_1s_2_2_2");  // odd: the upper half is the larger one
  CHECK(kv::yoco{}.plan(1).text() == "0");
  CHECK(kv::yoco{}.plan(4).window(1) == 1024);
  CHECK_FALSE(kv::yoco{}.plan(8).cyclic());
  laws::sharer(kv::yoco{}, 8);
  laws::sharer_in_a_cache(kv::yoco{.window = 2}, 5);
  CHECK_THROWS_AS(kv::yoco{.window = 0}.plan(4), kv::shape_error);
}

TEST_CASE("yoco equals a cache of its own layers whose upper layers copy the shared rows", "[share]") {
  const kv::model_shape shape{.layers = 5, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream shared(shape, 40), copied(shape, 40);
  for (std::size_t l = 3; l < 5; ++l) copied.k[l] = shared.k[2], copied.v[l] = shared.v[2];
  auto few = kv::make_cache(shape, kv::cpu{}, kv::yoco{.window = 6}, kv::dense<float>{});
  auto all = kv::make_cache(shape, kv::cpu{}, kv::layer_list{"0s_1s_2_3_4", 6}, kv::dense<float>{});
  auto a = few.open();
  auto b = all.open();
  for (const int n : {20, 1, 1, 9, 1}) CHECK((test::feed(few, a, shared, n) == test::feed(all, b, copied, n)));
}

TEST_CASE("a windowed layer sees exactly the newest positions, and its slot holds no others", "[share]") {
  const int window = 6;
  const kv::model_shape shape{.layers = 4, .query_heads = 2, .kv_heads = 2, .head_dim = 8};
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::yoco{.window = window}, kv::dense<float>{});
  test::stream s(shape, 40);
  auto sequence = cache.open();
  for (const int n : {4, 1, 1, 20, 1, 6, 5, 1}) {
    const int first = sequence.length();
    const auto out = test::feed(cache, sequence, s, n);
    for (int t = first; t < first + n; ++t)
      for (int h = 0; h < 2; ++h) {
        std::vector<int> seen;
        for (int p = std::max(0, t - window + 1); p <= t; ++p) seen.push_back(p);
        const auto want = test::exact(s, 1, t, h, seen);
        CHECK(test::relative_error(out[1].data() + ((t - first) * 2 + h) * 8, want.data(), 8) < 1e-5);
      }
    std::vector<int> held;  // what the next token will see, itself left out
    for (int p = std::max(0, sequence.length() - window + 1); p < sequence.length(); ++p) held.push_back(p);
    CHECK(sequence.positions(0, 0) == held);
    CHECK(sequence.rows(2, 0) == sequence.length());
  }
}

TEST_CASE("a window of one token is the token itself", "[share]") {
  const kv::model_shape shape{.layers = 2, .kv_heads = 1, .head_dim = 4};
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::yoco{.window = 1}, kv::dense<float>{});
  test::stream s(shape, 8);
  auto sequence = cache.open();
  for (const int n : {3, 1, 1}) {
    const auto out = test::feed(cache, sequence, s, n);
    const int t = sequence.length() - 1;
    CHECK(test::relative_error(out[0].data() + (n - 1) * 4, s.value(0, t, 0), 4) < 1e-6);
    CHECK(sequence.rows(0, 0) == 0);
  }
}
