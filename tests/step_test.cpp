// SPDX-License-Identifier: Apache-2.0
// A step is a transaction.
#include "support.hpp"

#include <limits>

#include <tersekv/evict/h2o.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace step_test {

const kv::model_shape small{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16};

TEST_CASE("a step destroyed without commit leaves the sequence as it was", "[step]") {
  test::stream s(small, 120, 1);
  auto cache = kv::make_cache(small, kv::cpu{}, kv::h2o{.heavy = 20, .recent = 20});
  auto chat = cache.open();
  auto twin = cache.open();
  for (const int n : {50, 1, 1}) test::feed(cache, chat, s, n), test::feed(cache, twin, s, n);
  const std::size_t before = cache.bytes();
  for (const int n : {1, 30}) {
    auto step = chat.step(n);
    test::run(cache, step, s, chat.length(), n);
  }
  CHECK(chat.length() == 52);
  CHECK(cache.bytes() == before);
  for (const int n : {1, 20, 1, 40}) {
    CHECK(test::feed(cache, chat, s, n) == test::feed(cache, twin, s, n));
    for (int l = 0; l < 2; ++l)
      for (int h = 0; h < 2; ++h) CHECK(chat.positions(l, h) == twin.positions(l, h));
  }
}

TEST_CASE("the last append before commit counts", "[step]") {
  test::stream s(small, 40, 2);
  test::stream other(small, 40, 3);
  auto cache = kv::make_cache(small, kv::cpu{}, kv::dense<float>{});
  auto chat = cache.open();
  {
    auto step = chat.step(40);
    test::run(cache, step, other, 0, 40);
    CHECK(step.change(0) == 1.0f);
    const auto outputs = test::run(cache, step, s, 0, 40);
    CHECK(test::worst_error(s, outputs, 0, 40) < 1e-5);
    CHECK(step.change(0) > 0.1f);
    test::run(cache, step, s, 0, 40);
    CHECK(step.change(0) == 0.0f);
    step.commit();
    CHECK_THROWS_AS(step.change(0), kv::usage_error);
  }
  CHECK(chat.rows(1, 1) == 40);
}

TEST_CASE("commit keeps the accepted tokens of a draft and nothing of the others", "[step]") {
  test::stream s(small, 60, 4);
  test::stream rejected(small, 60, 5);
  for (int t = 0; t < 43; ++t)  // the first tokens of the draft are right
    for (int l = 0; l < 2; ++l)
      for (int c = 0; c < 4 * 16; ++c) {
        const auto u = static_cast<std::size_t>(l);
        rejected.q[u][static_cast<std::size_t>(t * 64 + c)] = s.q[u][static_cast<std::size_t>(t * 64 + c)];
        if (c >= 32) continue;
        rejected.k[u][static_cast<std::size_t>(t * 32 + c)] = s.k[u][static_cast<std::size_t>(t * 32 + c)];
        rejected.v[u][static_cast<std::size_t>(t * 32 + c)] = s.v[u][static_cast<std::size_t>(t * 32 + c)];
      }
  auto cache = kv::make_cache(small, kv::cpu{}, kv::h2o{.heavy = 18, .recent = 8}, kv::dense<float>{});
  auto chat = cache.open();
  auto twin = cache.open();
  for (auto* x : {&chat, &twin}) test::feed(cache, *x, s, 40);
  {
    auto step = chat.step(8, {.decode = true});
    test::run(cache, step, rejected, 40, 8);
    step.commit(3);
  }
  test::feed(cache, twin, s, 3, {.decode = true});
  CHECK(chat.length() == 43);
  for (int i = 0; i < 10; ++i) {
    CHECK(test::feed(cache, chat, s, 1) == test::feed(cache, twin, s, 1));
    for (int h = 0; h < 2; ++h) CHECK(chat.positions(1, h) == twin.positions(1, h));
  }
  auto none = chat.step(2);
  test::run(cache, none, s, chat.length(), 2);
  none.commit(0);
  CHECK(chat.length() == 53);
}

TEST_CASE("wrong calls are refused with a sentence and change nothing", "[step]") {
  test::stream s(small, 20, 6);
  auto cache = kv::make_cache(small, kv::cpu{}, kv::dense<float>{});
  auto chat = cache.open();
  test::feed(cache, chat, s, 10);
  CHECK_THROWS_AS(chat.step(0), kv::shape_error);
  CHECK_THROWS_AS(chat.step(2, {.question = 3}), kv::shape_error);
  {
    auto step = chat.step(2);
    CHECK_THROWS_AS(chat.step(1), kv::usage_error);
    CHECK_THROWS_AS(chat.fork(), kv::usage_error);
    CHECK_THROWS_AS(step.append(2, s.keys(0, 10, 2), s.values(0, 10, 2)), kv::shape_error);
    CHECK_THROWS_AS(step.append(0, s.keys(0, 10, 3), s.values(0, 10, 2)), kv::shape_error);
    CHECK_THROWS_AS(step.append(0, s.queries(0, 10, 2), s.values(0, 10, 2)), kv::shape_error);
    std::vector<float> out(2 * 4 * 16);
    const kv::view o(out.data(), 2, 4, 16);
    CHECK_THROWS_AS(step.attend(0, s.queries(0, 10, 2), o), kv::usage_error);  // not appended
    CHECK_THROWS_AS(step.commit(), kv::usage_error);
    test::run(cache, step, s, 10, 2);
    const float* constant = out.data();
    CHECK_THROWS_AS(step.attend(0, s.queries(0, 10, 2), kv::view(constant, 2, 4, 16)), kv::usage_error);
    CHECK_THROWS_AS(step.commit(3), kv::shape_error);
    step.commit();
    CHECK_THROWS_AS(step.commit(), kv::usage_error);
  }
  CHECK(chat.length() == 12);
  CHECK(test::worst_error(s, test::feed(cache, chat, s, 8), 12, 8) < 1e-5);
  CHECK_THROWS_AS(kv::make_cache({.layers = 1, .query_heads = 3, .kv_heads = 2, .head_dim = 8}, kv::cpu{}),
                  kv::shape_error);
  CHECK_THROWS_AS(kv::make_cache({.layers = 0, .query_heads = 2, .kv_heads = 2, .head_dim = 8}, kv::cpu{}),
                  kv::shape_error);
  CHECK_THROWS_AS(kv::view(static_cast<float*>(nullptr), 1, 1, 1), kv::shape_error);
}

TEST_CASE("NaN and infinity never enter a cache", "[step]") {
  test::stream s(small, 20, 7);
  auto cache = kv::make_cache(small, kv::cpu{}, kv::h2o{.heavy = 8, .recent = 4});
  auto chat = cache.open();
  test::feed(cache, chat, s, 10);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    auto step = chat.step(1);
    auto k = test::normal(32, 1), v = test::normal(32, 2), q = test::normal(64, 3), out = test::normal(64, 4);
    k[17] = bad;
    CHECK_THROWS_AS(step.append(0, kv::view(k.data(), 1, 2, 16), kv::view(v.data(), 1, 2, 16)), kv::value_error);
    std::swap(k, v);
    CHECK_THROWS_AS(step.append(0, kv::view(k.data(), 1, 2, 16), kv::view(v.data(), 1, 2, 16)), kv::value_error);
    step.append(0, kv::view(k.data(), 1, 2, 16), kv::view(k.data(), 1, 2, 16));
    q[3] = bad;
    CHECK_THROWS_AS(step.attend(0, kv::view(q.data(), 1, 4, 16), kv::view(out.data(), 1, 4, 16)), kv::value_error);
  }
  auto fresh = cache.open();
  test::feed(cache, fresh, s, 10);
  CHECK(test::feed(cache, chat, s, 1) == test::feed(cache, fresh, s, 1));
}

TEST_CASE("out of memory leaves the step whole, and freeing a sequence lets it commit", "[step]") {
  test::stream s(small, 400, 8);
  kv::cpu limited;
  limited.max_bytes = 75000;
  auto cache = kv::make_cache(small, limited, kv::dense<kv::half>{});
  auto other = std::make_unique<decltype(cache.open())>(cache.open());
  test::feed(cache, *other, s, 100);
  auto chat = cache.open();
  test::feed(cache, chat, s, 90);
  const std::size_t before = cache.bytes();
  auto step = chat.step(150);
  const auto first = test::run(cache, step, s, 90, 150);
  CHECK_THROWS_AS(step.commit(), kv::capacity_error);
  CHECK(chat.length() == 90);
  CHECK(cache.bytes() - before < 4000);  // at most room that was reserved, no pages
  CHECK(test::run(cache, step, s, 90, 150) == first);
  other.reset();
  step.commit();
  CHECK(chat.length() == 240);
  CHECK(test::worst_error(s, test::feed(cache, chat, s, 1), 240, 1) < 3e-3);
}

}  // namespace step_test
