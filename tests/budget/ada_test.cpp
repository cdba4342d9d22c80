// SPDX-License-Identifier: Apache-2.0
#include <tersekv/budget/ada.hpp>

#include <tersekv/evict/snapkv.hpp>

#include "golden/eviction_fixture.hpp"
#include "laws/budgeter.hpp"

namespace kv = tersekv;

namespace ada_test {

using numbers = std::vector<std::vector<float>>;

/// Rows per head for these scores; the newest `recent` rows of every head are protected.
std::vector<int> allocated(const kv::ada& budget, int rows, const numbers& scores, std::size_t recent = 0,
                           kv::protection kind = kv::protection::recent) {
  kv::budget_request request{};
  request.rows = rows;
  std::vector<int> held, guarded;
  std::vector<std::vector<kv::protection>> guards;
  std::vector<std::span<const float>> score;
  std::vector<std::span<const kv::protection>> guard;
  for (const auto& s : scores) {
    held.push_back(static_cast<int>(s.size())), guarded.push_back(static_cast<int>(recent));
    guards.emplace_back(s.size(), kv::protection::none);
    std::fill(guards.back().end() - static_cast<std::ptrdiff_t>(recent), guards.back().end(), kind);
    score.push_back(s);
  }
  for (const auto& g : guards) guard.push_back(g);
  request.held = held, request.guarded = guarded, request.scores = score, request.guards = guard;
  std::vector<int> out(scores.size());
  budget.allocate(request, out);
  return out;
}

TEST_CASE("ada obeys the laws of budgets", "[budget]") {
  for (const float floor : {0.0f, 0.2f, 0.7f, 1.0f}) laws::budgeter(kv::ada{floor}, false);
}

TEST_CASE("ada counts the best scores of all heads", "[budget]") {
  CHECK(allocated({0}, 2, {{9, 8, 7, 1}, {6, 2, 1, 0}}) == std::vector<int>{3, 1});
  CHECK(allocated({0.5f}, 4, {{9, 8, 7, 6, 5, 5, 5, 5}, {1, 2, 1, 0, 0, 0, 0, 0}}) == std::vector<int>{6, 2});
  CHECK(allocated({1}, 2, {{9, 8, 7, 1}, {6, 2, 1, 0}}) == std::vector<int>{2, 2});
  CHECK(allocated({0}, 2, {{9, 8, 7, 6}, {5, 4, 3, 2}}) == std::vector<int>{3, 1});  // no head is left empty
}

TEST_CASE("protected rows come first in ada's count", "[budget]") {
  CHECK(allocated({0}, 3, {{9, 8, 7, 1, 99, 99}, {6, 2, 1, 0, 0, 0}}, 2) == std::vector<int>{4, 2});
  CHECK(allocated({0}, 2, {{9, 8, 1, 1, 1}, {6, 2, 0, 0, 0}}, 3) ==
        std::vector<int>{2, 2});  // the window fills the rows
  CHECK(allocated({0}, 2, {{9, 8, 1, 1, 1}, {6, 2, 0, 0, 0}}, 3, kv::protection::caller) == std::vector<int>{3, 3});
}

TEST_CASE("identical heads get equal rows, ties go to the newer and NaN comes last", "[budget]") {
  const std::vector<float> same{3, 1, 4, 1, 5, 9, 2, 6};
  for (const float floor : {0.0f, 0.3f}) CHECK(allocated({floor}, 3, {same, same, same}) == std::vector<int>{3, 3, 3});
  CHECK(allocated({0}, 2, {{1, 1, 1, 1}, {1, 1, 1, 1}}) == std::vector<int>{2, 2});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(allocated({0}, 2, {{nan, nan, nan, 1}, {-5, -6, -7, nan}}) == std::vector<int>{1, 3});
}

TEST_CASE("ada uses what short heads leave, and rounds floors as they are meant", "[budget]") {
  CHECK(allocated({0.2f}, 4, {{1, 1}, {1, 2, 3, 4, 5, 6, 7}}) == std::vector<int>{2, 6});
  CHECK(allocated({0.2f}, 4, {{1, 1}, {1, 2, 3}}) == std::vector<int>{2, 3});
  numbers far(2);
  for (int i = 0; i < 40; ++i)
    far[0].push_back(100.0f + static_cast<float>(i)), far[1].push_back(static_cast<float>(i));
  CHECK(allocated({0.7f}, 10, far) == std::vector<int>{13, 7});
  CHECK(allocated({0.3f}, 10, far) == std::vector<int>{17, 3});
  CHECK(allocated({0.1f}, 10, far) == std::vector<int>{19, 1});
  CHECK(allocated({0.25f}, 10, far) == std::vector<int>{18, 2});
}

TEST_CASE("ada on snapkv splits the published fixture three to five", "[budget]") {
  const kv::snapkv policy{.rows = 8, .window = 4, .kernel = 1};
  const auto joint = golden::kept(policy, kv::ada{0});
  CHECK(joint[0].size() == 4 + 3);
  CHECK(joint[1].size() == 4 + 5);
  CHECK(golden::kept(policy, kv::ada{1}) == golden::sets{{3, 4, 6, 10, 12, 13, 14, 15}, {5, 6, 7, 9, 12, 13, 14, 15}});
  // the joint set is the top 8 of both heads, and holds more score than the uniform one
  const auto s = golden::fixture();
  std::vector<std::tuple<double, int, int>> order;
  std::vector<std::vector<double>> score(2, std::vector<double>(12));
  for (int h = 0; h < 2; ++h)
    for (int j = 0; j < 12; ++j) {
      for (int i = 12; i < 16; ++i)
        for (const int q : {2 * h, 2 * h + 1})
          score[static_cast<std::size_t>(h)][static_cast<std::size_t>(j)] +=
              golden::attention_row(s, q, i)[static_cast<std::size_t>(j)];
      order.emplace_back(-score[static_cast<std::size_t>(h)][static_cast<std::size_t>(j)], h, j);
    }
  std::sort(order.begin(), order.end());
  golden::sets want(2);
  for (std::size_t i = 0; i < 8; ++i)
    want[static_cast<std::size_t>(std::get<1>(order[i]))].push_back(std::get<2>(order[i]));
  for (auto& x : want) x.insert(x.end(), {12, 13, 14, 15}), std::sort(x.begin(), x.end());
  CHECK(joint == want);
  const auto held = [&](const golden::sets& sets) {
    double sum = 0;
    for (std::size_t h = 0; h < 2; ++h)
      for (const int p : sets[h])
        if (p < 12) sum += score[h][static_cast<std::size_t>(p)];
    return sum;
  };
  for (const float floor : {0.0f, 0.2f, 0.5f, 0.75f})
    CHECK(held(golden::kept(policy, kv::ada{floor})) >= held(golden::kept(policy, kv::ada{1})));
}

TEST_CASE("a cache keeps exactly ada's total at every size of prompt", "[budget]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 8, .kv_heads = 4, .head_dim = 6};
  auto cache =
      kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::snapkv{.rows = 12, .window = 3, .kernel = 3}, kv::ada{});
  for (const int tokens : {2, 12, 13, 17, 100}) {
    test::stream s(shape, tokens + 3, static_cast<unsigned>(tokens), 2.0f);
    auto chat = cache.open();
    test::feed(cache, chat, s, tokens);
    for (int l = 0; l < 2; ++l) {
      int total = 0;
      for (int h = 0; h < 4; ++h) {
        total += chat.rows(l, h);
        CHECK(chat.rows(l, h) >= std::min(tokens, 3 + 1));  // window and floor(0.2 * 9)
      }
      CHECK(total == 4 * std::min(tokens, 12));
    }
    test::feed(cache, chat, s, 1);
    CHECK(chat.positions(1, 3).back() == tokens);
  }
}

TEST_CASE("ada refuses floors outside 0 to 1", "[budget]") {
  for (const float floor : {-0.1f, 1.1f, std::numeric_limits<float>::quiet_NaN()})
    CHECK_THROWS_AS(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, kv::snapkv{}, kv::ada{floor}),
                    kv::shape_error);
}

}  // namespace ada_test
