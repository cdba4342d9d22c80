// SPDX-License-Identifier: Apache-2.0
// Prompts under maps that read upward: how many passes make what exact.
#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/streaming_llm.hpp>
#include <tersekv/share/lckv.hpp>

#include "catch.hpp"
#include "share/mass.hpp"
#include "share/tiny_transformer.hpp"

namespace kv = tersekv;

namespace lckv_prompt_test {

constexpr int layers = 8, tokens = 24;

struct fixture {
  test::tiny_transformer m{layers};
  std::vector<test::numbers> prompt = m.prompt(tokens);
  std::vector<test::numbers> exact = test::recur(m, {0, 6, 6, 6, 6, 6, 6, 7}, prompt).hidden;
  kv::lckv<2> map{.passes = tokens};
};

std::function<bool(int)> passes(int wanted) {
  return [wanted](int pass) { return pass == wanted; };
}

TEST_CASE_METHOD(fixture, "k passes make the first k tokens exact, and no others", "[share]") {
  auto cache = kv::make_cache(m.shape, kv::cpu{}, map, kv::dense<float>{});
  const double noise = 2e-6;  // float32 rows against float64
  double last_error = 1e9;
  for (const int k : {1, 2, 3, 5, 9}) {
    auto sequence = cache.open();
    const auto run = test::feed_model(m, cache, sequence, prompt, passes(k));
    REQUIRE(run.passes == k);
    double error = 0;
    for (int t = 0; t < tokens; ++t) {
      const double d = test::distance(run.hidden[std::size_t(t)], exact[std::size_t(t)]);
      if (t < k) CHECK(d < noise);
      error += d;
    }
    CHECK(test::distance(run.hidden[std::size_t(k)], exact[std::size_t(k)]) > noise);
    CHECK(error < last_error);  // the rest comes closer
    last_error = error;
  }
}

TEST_CASE_METHOD(fixture, "a token that is exact stays so, bit for bit", "[share]") {
  auto cache = kv::make_cache(m.shape, kv::cpu{}, map, kv::dense<float>{});
  auto sequence = cache.open();
  auto step = sequence.step(tokens);
  const auto five = test::run_cached(m, cache, step, prompt, 0, passes(5));
  const auto more = test::run_cached(m, cache, step, prompt, 0, passes(6));
  for (std::size_t t = 0; t < 5; ++t) CHECK((five.hidden[t] == more.hidden[t]));
}

TEST_CASE_METHOD(fixture, "what a slot holds before the first pass does not matter in the end", "[share]") {
  auto cache = kv::make_cache(m.shape, kv::cpu{}, map, kv::dense<float>{});
  auto sequence = cache.open();
  const auto noise = test::normal(static_cast<std::size_t>(tokens * m.key_width()), 3);
  auto step = sequence.step(tokens);
  const kv::view rows(noise.data(), tokens, m.shape.kv_heads, m.shape.head_dim);
  step.append(6, rows, rows);
  CHECK(test::distance(test::run_cached(m, cache, step, prompt, 0, passes(1)).hidden, exact) > 0.01);
  step.append(6, rows, rows);
  CHECK(test::distance(test::run_cached(m, cache, step, prompt, 0, passes(tokens)).hidden, exact) < 1e-5);
}

TEST_CASE_METHOD(fixture, "passes repeated until nothing changes give the exact prompt", "[share]") {
  auto cache = kv::make_cache(m.shape, kv::cpu{}, map, kv::dense<float>{});
  auto sequence = cache.open();
  auto step = sequence.step(tokens);
  float first_change = 0;
  const auto settled = [&](int pass) {
    if (pass == 1) first_change = step.change(6);
    return step.change(6) < 1e-6f;
  };
  const auto run = test::run_cached(m, cache, step, prompt, 0, settled);
  CHECK(first_change == 1.0f);  // there is nothing to compare with yet
  CHECK(run.passes > 2);
  CHECK(run.passes <= tokens + 1);
  CHECK(test::distance(run.hidden, exact) < 1e-5);
}

TEST_CASE("change says how far a slot has moved since the last append", "[share]") {
  auto cache = kv::make_cache({.layers = 2, .kv_heads = 1, .head_dim = 2}, kv::cpu{}, kv::lckv<0>{});
  auto sequence = cache.open();
  auto step = sequence.step(1);
  const auto append = [&](float x, float y) {
    const float row[2] = {x, y};
    step.append(1, kv::view(row, 1, 1, 2), kv::view(row, 1, 1, 2));
    return step.change(1);
  };
  CHECK(append(1, -4) == 1.0f);
  CHECK(append(1, -4) == 0.0f);
  CHECK(append(2, -4) == 0.25f);
  CHECK(append(0, 0) == 1.0f);
  CHECK(append(0, 0) == 0.0f);  // zeros can settle, too
  CHECK_THROWS_AS(step.change(0), kv::usage_error);
}

TEST_CASE_METHOD(fixture, "a prompt in chunks of at most `passes` tokens is exact, whatever the chunk", "[share]") {
  for (const int chunk : {1, 2, 5, 9, 24}) {
    auto cache = kv::make_cache(m.shape, kv::cpu{}, kv::lckv<2>{.passes = chunk}, kv::dense<float>{});
    auto sequence = cache.open();
    std::vector<test::numbers> out;
    for (int first = 0; first < tokens; first += chunk) {
      const int last = std::min(tokens, first + chunk);
      const std::vector<test::numbers> part(prompt.begin() + first, prompt.begin() + last);
      const auto run = test::feed_model(m, cache, sequence, part, {}, {.more = last < tokens});
      CHECK(run.passes == last - first);  // as the schedule asks
      out.insert(out.end(), run.hidden.begin(), run.hidden.end());
    }
    CHECK(test::distance(out, exact) < 1e-5);
  }
}

TEST_CASE_METHOD(fixture, "a chunk that takes more tokens than passes is not exact", "[share]") {
  auto cache = kv::make_cache(m.shape, kv::cpu{}, kv::lckv<2>{.passes = 3}, kv::dense<float>{});
  auto sequence = cache.open();
  CHECK(test::distance(test::feed_model(m, cache, sequence, prompt).hidden, exact) > 1e-4);
}

TEST_CASE_METHOD(fixture, "drafts of n tokens are verified in n passes, and may be accepted in part", "[share]") {
  auto cache = kv::make_cache(m.shape, kv::cpu{}, map, kv::dense<float>{});
  auto sequence = cache.open();
  test::feed_model(m, cache, sequence, {prompt.begin(), prompt.begin() + 10});
  auto drafts = m.prompt(4, 500);
  drafts[0] = prompt[10], drafts[1] = prompt[11];  // the first two are right
  {
    auto step = sequence.step(4, {.decode = true});
    const auto run = test::run_cached(m, cache, step, drafts, 10);
    CHECK(run.passes == 4);
    for (std::size_t t = 0; t < 2; ++t) CHECK(test::distance(run.hidden[t], exact[10 + t]) < 1e-5);
    step.commit(2);
  }
  CHECK(sequence.length() == 12);
  CHECK(test::distance(test::feed_model(m, cache, sequence, {prompt[12]}).hidden[0], exact[12]) < 1e-5);
}

TEST_CASE_METHOD(fixture, "rows leave and are packed at commit only, so policies do not disturb the passes",
                 "[share]") {
  auto plain = kv::make_cache(m.shape, kv::cpu{}, map, kv::dense<float>{});
  auto small = kv::make_cache(m.shape, kv::cpu{}, map, kv::h2o{.heavy = 2, .recent = 2});  // 16 bit, four rows
  auto a = plain.open();
  auto b = small.open();
  auto step = b.step(tokens);
  CHECK((test::run_cached(m, small, step, prompt, 0).hidden == test::feed_model(m, plain, a, prompt).hidden));
  CHECK(b.rows(0, 0) == 0);
  step.commit();
  for (int s = 0; s < 3; ++s) CHECK(b.rows(s, 1) == 4);
}

TEST_CASE("h2o counts the attention of all condensed layers, of the last pass only", "[share]") {
  const kv::model_shape shape{.layers = 5, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  const int heavy = 4, recent = 3;
  test::stream s(shape, 20, 3, 1.5f);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::lckv<2>{.passes = 3}, kv::dense<float>{},
                              kv::h2o{.heavy = heavy, .recent = recent});
  auto sequence = cache.open();
  {
    auto step = sequence.step(20);
    for (int pass = 0; pass < 3; ++pass) test::run(cache, step, s, 0, 20);
    step.commit();
  }
  bool target_alone_differs = false;
  for (int h = 0; h < 2; ++h) {
    const auto expected = [&](std::vector<int> layers) {
      return test::heavy_hitters(s, cache.plan(), layers, h, heavy, recent);
    };
    CHECK(sequence.positions(0, h) == expected({0}));
    CHECK(sequence.positions(1, h) == expected({1, 2, 3}));
    CHECK(sequence.positions(2, h) == expected({4}));
    target_alone_differs = target_alone_differs || sequence.positions(1, h) != expected({3});
  }
  CHECK(target_alone_differs);  // so that the test can fail
}

TEST_CASE_METHOD(fixture, "with streaming_llm every slot keeps its sinks and its newest rows, once", "[share]") {
  auto cache = kv::make_cache(m.shape, kv::cpu{}, map, kv::streaming_llm{.sinks = 2, .recent = 6}, kv::dense<float>{});
  auto sequence = cache.open();
  test::feed_model(m, cache, sequence, {prompt.begin(), prompt.begin() + 8});
  for (int t = 8; t < tokens; ++t) {
    // a condensed layer reads what the slot holds, without the token itself; a warm-up layer reads that token, too
    const auto held = sequence.positions(1, 0);
    const auto run = test::feed_model(m, cache, sequence, {prompt[std::size_t(t)]});
    std::vector<int> want{0, 1};
    for (int p = std::max(2, t - 5); p <= t; ++p) want.push_back(p);
    for (int s = 0; s < 3; ++s)
      for (int h = 0; h < 2; ++h) CHECK(sequence.positions(s, h) == want);
    CHECK(held.back() == t - 1);
    CHECK(sequence.rows(1, 0) == 8);
    CHECK(run.passes == 1);
  }
}

TEST_CASE("layers of a condensed cache with evicted rows read exactly the rows that the slot holds", "[share]") {
  const kv::model_shape shape{.layers = 5, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream s(shape, 30);
  auto cache =
      kv::make_cache(shape, kv::cpu{}, kv::lckv<2>{}, kv::streaming_llm{.sinks = 2, .recent = 6}, kv::dense<float>{});
  auto sequence = cache.open();
  for (int t = 0; t < 30; ++t) {
    const auto held = sequence.positions(1, 0);
    const auto out = test::feed(cache, sequence, s, 1);
    for (int l = 1; l <= 3; ++l)
      for (int h = 0; h < 4; ++h) {
        std::vector<const float*> keys, values;
        for (const int p : held) keys.push_back(s.key(3, p, h / 2)), values.push_back(s.value(3, p, h / 2));
        if (l == 3) keys.push_back(s.key(3, t, h / 2)), values.push_back(s.value(3, t, h / 2));
        const auto want = test::attention(s.query(l, t, h), keys, values, 8, 8, 1 / std::sqrt(8.0));
        CHECK(test::relative_error(out[std::size_t(l)].data() + h * 8, want.data(), 8) < 1e-5);
      }
  }
}

}  // namespace lckv_prompt_test
