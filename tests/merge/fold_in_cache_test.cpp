// SPDX-License-Identifier: Apache-2.0
// Folding inside a cache: what the commit hands to a merge policy, and what it stores of the answer.
#include <tersekv/evict/h2o.hpp>
#include <tersekv/merge/d2o.hpp>
#include <tersekv/merge/weighted_kv.hpp>
#include <tersekv/share/yoco.hpp>

#include "catch.hpp"
#include "merge/spy.hpp"
#include "support.hpp"

namespace kv = tersekv;

namespace fold_in_cache_test {

const kv::model_shape one_head{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8};
const kv::h2o small{.heavy = 6, .recent = 4};

/// Prompt of 20 tokens, then one by one.
template <class Cache, class Sequence>
std::vector<std::vector<std::vector<float>>> run_all(const Cache& cache, Sequence& sequence, test::stream& s) {
  std::vector<std::vector<std::vector<float>>> out{test::feed(cache, sequence, s, 20)};
  while (sequence.length() < s.tokens) out.push_back(test::feed(cache, sequence, s, 1));
  return out;
}

TEST_CASE("what a merge policy writes is stored, and all other rows stay bit-identical", "[merge]") {
  test::stream s(one_head, 40);
  std::vector<test::fold_record> log;
  auto cache = kv::make_cache(one_head, kv::cpu{}, small, test::spy<kv::d2o>{.log = &log}, kv::dense<float>{});
  auto sequence = cache.open();
  run_all(cache, sequence, s);
  REQUIRE(log.size() == 21);
  int rewritten = 0;
  for (std::size_t i = 0; i < log.size(); ++i) {
    int stayers = 0;
    for (const auto& [position, row] : log[i].after) {
      stayers += row.stays;
      const auto& was = log[i].before.at(position);
      rewritten += row.key != was.key;
      if (i + 1 < log.size()) {
        const auto& rows = log[i + 1].before;
        CHECK(rows.count(position) == (row.stays ? 1 : 0));
        if (row.stays) {  // the next fold reads what this one left, rewritten or not
          CHECK(rows.at(position).key == row.key);
          CHECK(rows.at(position).value == row.value);
        }
      }
      if (i == 0) CHECK(was.key == std::vector<float>(s.key(0, position, 0), s.key(0, position, 0) + 8));
    }
    CHECK(stayers == 10);
    CHECK(log[i].before.size() == (i == 0 ? 20u : 11u));
  }
  CHECK(rewritten > 5);
  CHECK(sequence.rows(0, 0) == 10);
}

TEST_CASE("a merge policy that folds nothing equals plain eviction, bit for bit", "[merge]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream s(shape, 60);
  auto plain = kv::make_cache(shape, kv::cpu{}, small);
  auto asked = kv::make_cache(shape, kv::cpu{}, small, test::abstain{});
  auto folded = kv::make_cache(shape, kv::cpu{}, small, kv::d2o{});
  auto a = plain.open();
  auto b = asked.open();
  auto c = folded.open();
  const auto want = run_all(plain, a, s);
  CHECK((run_all(asked, b, s) == want));
  const auto other = run_all(folded, c, s);
  CHECK((other != want));  // so that the test can fail
  CHECK((other[0] == want[0]));
  CHECK((other[1] != want[1]));
}

TEST_CASE("folding does not change who stays", "[merge]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream s(shape, 30);
  auto plain = kv::make_cache(shape, kv::cpu{}, small);
  auto folded = kv::make_cache(shape, kv::cpu{}, small, kv::d2o{});
  auto a = plain.open();
  auto b = folded.open();
  test::feed(plain, a, s, 30), test::feed(folded, b, s, 30);
  for (int l = 0; l < 2; ++l)
    for (int h = 0; h < 2; ++h) CHECK(a.positions(l, h) == b.positions(l, h));
}

TEST_CASE("evicting one row takes its share out of the output: (o - A v) / (1 - A)", "[merge]") {
  test::stream s(one_head, 11);
  auto cache = kv::make_cache(one_head, kv::cpu{}, kv::h2o{.heavy = 5, .recent = 4}, kv::dense<float>{});
  auto sequence = cache.open();
  test::feed(cache, sequence, s, 10);
  const auto kept = sequence.positions(0, 0);
  REQUIRE(kept.size() == 9);
  int gone = 0;
  while (gone < 9 && kept[static_cast<std::size_t>(gone)] == gone) ++gone;
  const auto out = test::feed(cache, sequence, s, 1);
  for (int h = 0; h < 2; ++h) {
    const auto o = test::exact(s, 0, 10, h);
    double sum = 0, share = 0;
    for (int p = 0; p <= 10; ++p) {
      double x = 0;
      for (int c = 0; c < 8; ++c) x += double(s.query(0, 10, h)[c]) * double(s.key(0, p, 0)[c]) / std::sqrt(8.0);
      sum += std::exp(x);
      if (p == gone) share = std::exp(x);
    }
    share /= sum;
    for (int c = 0; c < 8; ++c)
      CHECK(
          double(out[0][static_cast<std::size_t>(h * 8 + c)]) ==
          Approx((o[static_cast<std::size_t>(c)] - share * double(s.value(0, gone, 0)[c])) / (1 - share)).margin(1e-5));
  }
}

TEST_CASE("a fork has thresholds of its own", "[merge]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream s(shape, 60);
  test::stream alike(shape, 60, 9);  // its keys all look the same: thresholds rise
  for (auto& k : alike.k)
    for (std::size_t i = 0; i < k.size(); ++i) k[i] = 1 + 0.01f * k[i];
  auto cache = kv::make_cache(shape, kv::cpu{}, small, kv::d2o{.alpha = 0.9f, .beta = 0.1f}, kv::dense<float>{});
  auto alone = cache.open();
  test::feed(cache, alone, s, 20);
  auto first = alone.fork();
  auto second = alone.fork();
  std::vector<std::vector<std::vector<float>>> want, got, other;
  for (int t = 20; t < 60; ++t) want.push_back(test::feed(cache, alone, s, 1));
  for (int t = 20; t < 60; ++t) {
    other.push_back(test::feed(cache, second, alike, 1));
    got.push_back(test::feed(cache, first, s, 1));
  }
  CHECK((got == want));
  CHECK((other != want));
}

TEST_CASE("a step that is dropped leaves thresholds as they were", "[merge]") {
  test::stream s(one_head, 60);
  auto cache = kv::make_cache(one_head, kv::cpu{}, small, kv::d2o{}, kv::dense<float>{});
  auto a = cache.open();
  auto b = cache.open();
  test::feed(cache, a, s, 20), test::feed(cache, b, s, 20);
  for (int t = 20; t < 40; ++t) {
    {
      auto step = a.step(2);
      test::run(cache, step, s, t, 2);
    }
    CHECK((test::feed(cache, a, s, 1) == test::feed(cache, b, s, 1)));
  }
}

TEST_CASE("weighted_kv is told each row's attention and how many queries saw it", "[merge]") {
  test::stream s(one_head, 40);
  std::vector<test::fold_record> log;
  auto cache = kv::make_cache(one_head, kv::cpu{}, small, test::spy<kv::weighted_kv>{.log = &log}, kv::dense<float>{});
  auto sequence = cache.open();
  run_all(cache, sequence, s);
  double mass = 0;
  for (const auto& [position, row] : log[0].before) {
    mass += static_cast<double>(row.state[0]);
    CHECK(row.state[1] == static_cast<float>(20 - position));
  }
  CHECK(mass == Approx(20));  // every query spends one
  int changed = 0;
  for (const auto& record : log)
    for (const auto& [position, row] : record.after) {
      CHECK(row.key == record.before.at(position).key);
      changed += row.value != record.before.at(position).value;
    }
  CHECK(changed > 5);
}

TEST_CASE("rows that no reader can see any more are dropped, not folded", "[merge]") {
  const kv::model_shape shape{.layers = 2, .kv_heads = 1, .head_dim = 8};
  test::stream s(shape, 40);
  std::vector<test::fold_record> log;
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::yoco{.window = 6}, kv::h2o{.heavy = 50, .recent = 50},
                              test::spy<kv::d2o>{.log = &log}, kv::dense<float>{});
  auto sequence = cache.open();
  run_all(cache, sequence, s);
  CHECK(sequence.rows(0, 0) == 5);
  CHECK(sequence.rows(1, 0) == 40);
  CHECK(log.empty());
}

TEST_CASE("folding into pages that a fork shares leaves the fork's rows alone", "[merge]") {
  test::stream s(one_head, 120, 7);
  auto cache = kv::make_cache(one_head, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 40, .recent = 30}, kv::d2o{});
  auto chat = cache.open();
  auto twin = cache.open();
  for (auto* x : {&chat, &twin}) test::feed(cache, *x, s, 70);
  auto fork = chat.fork();
  for (int i = 0; i < 30; ++i) test::feed(cache, fork, s, 1);  // steps fold rows into pages of both
  for (int i = 0; i < 30; ++i) REQUIRE(test::feed(cache, chat, s, 1) == test::feed(cache, twin, s, 1));
  CHECK(test::feed(cache, fork, s, 1) == test::feed(cache, chat, s, 1));  // the same history, reached apart
}

}  // namespace fold_in_cache_test
