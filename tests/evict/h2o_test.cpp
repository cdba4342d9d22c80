// SPDX-License-Identifier: Apache-2.0
#include <tersekv/evict/h2o.hpp>

#include <atomic>
#include <thread>

#include <tersekv/read/quest.hpp>

#include "golden/eviction_fixture.hpp"
#include "laws/evictor.hpp"

namespace kv = tersekv;

namespace h2o_test {

/// Query [4] whose attention over unit keys e_0 .. e_3 is proportional to p (scale 1).
std::vector<float> looking(std::initializer_list<float> p) {
  std::vector<float> q(4, 0.0f);
  std::size_t c = 0;
  for (const float x : p) q[c++] = x > 0 ? std::log(x) : -100.0f;
  return q;
}

TEST_CASE("h2o obeys the laws of eviction", "[evict]") { laws::evictor(kv::h2o{.heavy = 7, .recent = 5}); }

TEST_CASE("h2o keeps the rows of the published fixture", "[evict]") {
  const auto s = golden::fixture();
  CHECK(std::vector<float>(s.query(0, 0, 0), s.query(0, 0, 0) + 4) == std::vector<float>{.5f, -1.5f, -1.5f, -1.0f});
  CHECK(std::vector<float>(s.key(0, 0, 0), s.key(0, 0, 0) + 4) == std::vector<float>{.5f, -1.5f, 1.5f, -1.0f});
  CHECK(std::vector<float>(s.key(0, 0, 1), s.key(0, 0, 1) + 4) == std::vector<float>{-.5f, -.5f, .5f, -.5f});
  CHECK(std::vector<float>(s.value(0, 0, 0), s.value(0, 0, 0) + 4) == std::vector<float>{1.5f, 1.5f, 1.5f, -1.0f});
  const double row[] = {.172886, .104861, .603431, .118823};
  for (std::size_t j = 0; j < 4; ++j) CHECK(golden::attention_row(s, 0, 3)[j] == Approx(row[j]).margin(1e-6));
  const double sums[] = {2.740286, 2.964763, 1.935888, 1.977713};
  for (std::size_t j = 0; j < 4; ++j) {
    double sum = 0;
    for (int i = static_cast<int>(j); i < 16; ++i)
      sum += (golden::attention_row(s, 0, i)[j] + golden::attention_row(s, 1, i)[j]) / 2;
    CHECK(sum == Approx(sums[j]).margin(1e-6));
  }
  CHECK(golden::kept(kv::h2o{.heavy = 4, .recent = 4}) ==
        golden::sets{{0, 1, 2, 3, 12, 13, 14, 15}, {0, 1, 2, 3, 12, 13, 14, 15}});
}

TEST_CASE("h2o adds up attention and lets the weakest old row go", "[evict]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 4, .scale = 1};
  test::stream s(shape, 4);
  std::fill(s.k[0].begin(), s.k[0].end(), 0.0f);
  for (std::size_t t = 0; t < 4; ++t) s.k[0][t * 5] = 1;
  const std::vector<float> rows[] = {looking({1}), looking({.6f, .4f}), looking({.5f, .2f, .3f}),
                                     looking({.3f, 0, .2f, .5f})};
  for (std::size_t t = 0; t < 4; ++t)
    std::copy(rows[t].begin(), rows[t].end(), s.q[0].begin() + static_cast<std::ptrdiff_t>(t * 4));
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 1, .recent = 1});
  auto chat = cache.open();
  test::feed(cache, chat, s, 3);  // s = 2.1 .6 .3
  CHECK(chat.positions(0, 0) == std::vector<int>{0, 2});
  test::feed(cache, chat, s, 1);  // s = 2.4 .5 .5
  CHECK(chat.positions(0, 0) == std::vector<int>{0, 3});
}

TEST_CASE("h2o carries the sums of the rows that stay", "[evict]") {
  // Row 1 is looked at early, row 2 late; what decides is the sum over both times, after a row between them has left.
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 4, .scale = 1};
  test::stream s(shape, 6);
  std::fill(s.k[0].begin(), s.k[0].end(), 0.0f);
  for (std::size_t t = 0; t < 6; ++t) s.k[0][t * 4 + std::min<std::size_t>(t, 3)] = 1;  // rows 3, 4, 5 look alike
  const std::vector<float> rows[] = {looking({1}),                                      // s = 1
                                     looking({.1f, .9f}),                               // s = 1.1 .9
                                     looking({.1f, .4f, .5f}),                          // s = 1.2 1.3 .5
                                     looking({.2f, .1f, .5f, .2f}),  // s = 1.4 1.4 1 .2: row 3 is recent, row 2 leaves
                                     looking({.6f, .2f, 0, .1f}),    // row 3 (.3 of .2 and .1) leaves
                                     looking({.1f, .7f, 0, .1f})};   // s = 2.1 2.3: row 0 and 1 stay
  for (std::size_t t = 0; t < 6; ++t)
    std::copy(rows[t].begin(), rows[t].end(), s.q[0].begin() + static_cast<std::ptrdiff_t>(t * 4));
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 2, .recent = 1});
  auto chat = cache.open();
  test::feed(cache, chat, s, 3);
  const std::vector<int> expected[] = {{0, 1, 3}, {0, 1, 4}, {0, 1, 5}};
  for (const auto& positions : expected) {
    test::feed(cache, chat, s, 1);
    CHECK(chat.positions(0, 0) == positions);
  }
}

/// A policy that shows how much mass it was told of, whenever rows must leave.
struct counting : kv::h2o {
  std::vector<double>* total = nullptr;
  void score(const kv::scored_head& head, std::span<float> out) const {
    kv::h2o::score(head, out);
    double sum = 0;
    for (const float x : head.state) sum += static_cast<double>(x);
    total->push_back(sum);
  }
};

TEST_CASE("attention mass sums to the number of queries until a row leaves", "[evict]") {
  std::vector<double> total;
  counting policy{{.heavy = 20, .recent = 20}};
  policy.total = &total;
  const kv::model_shape shape{.layers = 1, .query_heads = 6, .kv_heads = 2, .head_dim = 6};
  test::stream s(shape, 150);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, policy);
  for (const std::vector<int>& steps : {std::vector<int>{41}, {130}, {70, 71}}) {  // with single queries, and summed up
    total.clear();
    auto chat = cache.open();
    int fed = 0;
    for (const int n : steps) test::feed(cache, chat, s, n, {.more = (fed += n) < 100 && steps.size() > 1});
    REQUIRE(total.size() == 2);
    for (const double sum : total) CHECK(sum == Approx(fed).epsilon(1e-5));
  }
}

TEST_CASE("rows that are not read have no attention mass", "[evict]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  constexpr int prompt = 300, tokens = 20;
  test::stream s(shape, prompt + tokens);
  std::vector<double> total;
  counting policy{{.heavy = prompt, .recent = tokens - 1}};
  policy.total = &total;
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<kv::half>{}, policy, kv::quest{.rows = 64});
  auto chat = cache.open();
  test::feed(cache, chat, s, prompt);
  for (int t = 0; t < tokens; ++t) test::feed(cache, chat, s, 1);  // other pages every time
  REQUIRE(total.size() == 2);
  for (const double sum : total) CHECK(sum == Approx(prompt + tokens).epsilon(1e-5));
}

/// What h2o has added up for every head of a cache of many rows after some tokens, and the outputs; the cache's report.
struct masses {
  std::vector<std::vector<float>> of_head;
  std::vector<std::vector<float>> out;
  kv::report_data report;
};
masses add_up(const kv::cpu& backend, int heads = 6, int rows = 4420) {  // several pieces of work per head
  struct showing : kv::h2o {
    masses* to = nullptr;
    void score(const kv::scored_head& head, std::span<float> scores) const {
      kv::h2o::score(head, scores);
      to->of_head[static_cast<std::size_t>(head.head)].assign(head.state.begin(), head.state.end());
    }
  };
  masses sums;
  sums.of_head.resize(static_cast<std::size_t>(heads));
  showing policy{{.heavy = rows - 20, .recent = 20}};
  policy.to = &sums;
  const kv::model_shape shape{.layers = 1, .query_heads = 2 * heads, .kv_heads = heads, .head_dim = 8};
  constexpr int tokens = 3;
  test::stream s(shape, rows + tokens);
  auto cache = kv::make_cache(shape, backend, kv::dense<float>{}, policy);
  auto chat = cache.open();
  auto prompt = chat.step(rows, {.more = true});
  prompt.append(0, s.keys(0, 0, rows), s.values(0, 0, rows));
  prompt.commit();
  for (int t = 0; t < tokens; ++t) sums.out.push_back(test::feed(cache, chat, s, 1)[0]);
  sums.report = cache.report();
  return sums;
}

TEST_CASE("attention mass is the same bits for any threads, and heads take turns with its memory", "[evict]") {
  const masses alone = add_up({});
  for (const auto& head : alone.of_head) {
    double sum = 0;
    for (const float x : head) sum += static_cast<double>(x);
    REQUIRE(head.size() == 4421);
    CHECK(sum == Approx(3).epsilon(1e-2));  // what two rows had that left is missing
  }
  kv::cpu one_thread, all_heads_at_once;
  one_thread.parallel = [](int n, const std::function<void(int)>& work) {
    for (int i = 0; i < n; ++i) work(i);
  };
  // A thread stays with a head while that has work, so every piece of work gets a thread of its own, one after another.
  all_heads_at_once.parallel = [](int n, const std::function<void(int)>& work) {
    std::atomic<int> turn = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < n; ++i)
      threads.emplace_back([&, i] {
        while (turn != i) std::this_thread::yield();
        work(i);
        ++turn;
        while (turn < n) std::this_thread::yield();  // or the next thread might get this one's name
      });
    for (std::thread& t : threads) t.join();
  };
  for (const kv::cpu& backend : {one_thread, all_heads_at_once, test::on_threads(2), test::on_threads(5)}) {
    const masses others = add_up(backend);
    CHECK(others.of_head == alone.of_head);
    CHECK(others.out == alone.out);
  }
  const std::size_t weights = 36 * 2 * 128 * sizeof(float);  // of one head
  CHECK(add_up(one_thread).report.workspace_bytes < alone.report.workspace_bytes + weights);
  CHECK(add_up(all_heads_at_once).report.workspace_bytes > alone.report.workspace_bytes + 4 * weights);
}

TEST_CASE("attention mass is complete where many heads have long pieces of work", "[evict]") {
  const masses alone = add_up({}, 32, 9000);  // 8192 rows, then the others
  for (const auto& head : alone.of_head) {
    double sum = 0;
    for (const float x : head) sum += static_cast<double>(x);
    REQUIRE(head.size() == 9001);
    CHECK(sum == Approx(3).epsilon(1e-2));
  }
  const masses others = add_up(test::on_threads(3), 32, 9000);
  CHECK(others.of_head == alone.of_head);
  CHECK(others.out == alone.out);
}

TEST_CASE("h2o with as many heavy rows as tokens is dense attention, with none a sliding window", "[evict]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8};
  test::stream s(shape, 140);
  auto all = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 140, .recent = 0});
  auto window = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::h2o{.heavy = 0, .recent = 9});
  auto a = all.open(), b = window.open();
  test::feed(all, a, s, 40), test::feed(window, b, s, 40);
  for (int t = 40; t < 140; ++t) {
    CHECK(test::worst_error(s, test::feed(all, a, s, 1), t, 1) < 1e-5);
    test::feed(window, b, s, 1);
    std::vector<int> newest;
    for (int p = t - 8; p <= t; ++p) newest.push_back(p);
    CHECK(b.positions(0, 0) == newest);
  }
}

TEST_CASE("h2o refuses sizes that keep nothing", "[evict]") {
  for (const kv::h2o& wrong :
       {kv::h2o{.heavy = -1, .recent = 5}, kv::h2o{.heavy = 5, .recent = -1}, kv::h2o{.heavy = 0, .recent = 0}})
    CHECK_THROWS_AS(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, wrong), kv::shape_error);
}

}  // namespace h2o_test
