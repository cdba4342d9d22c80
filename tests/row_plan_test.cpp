// SPDX-License-Identifier: Apache-2.0
// Decisions without storage are those of a cache.
#include "support.hpp"

#include <tersekv/evict/h2o.hpp>
#include <tersekv/row_plan.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace row_plan_test {

/// Attention mass that the queries of tokens first .. first + n put on the rows at `positions`.
std::vector<float> mass(const test::stream& s, int head, const std::vector<int>& positions, int first, int n) {
  std::vector<float> out(positions.size(), 0.0f);
  const int group = s.shape.group();
  for (int t = first; t < first + n; ++t)
    for (int g = 0; g < group; ++g) {
      std::vector<double> logits;
      double sum = 0;
      for (const int p : positions) {
        double x = 0;
        for (int c = 0; c < s.shape.head_dim; ++c)
          x += static_cast<double>(s.query(0, t, head * group + g)[c]) * static_cast<double>(s.key(0, p, head)[c]);
        logits.push_back(p <= t ? std::exp(x * static_cast<double>(s.shape.scale)) : 0.0);
        sum += logits.back();
      }
      for (std::size_t i = 0; i < out.size(); ++i) out[i] += static_cast<float>(logits[i] / sum / group);
    }
  return out;
}

TEST_CASE("an engine that owns its memory keeps the rows that a cache keeps", "[row_plan]") {
  test::stream s({.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 16}, 200, 1);
  const kv::h2o policy{.heavy = 12, .recent = 9};
  auto cache = kv::make_cache(s.shape, kv::cpu{}, policy, kv::dense<float>{});
  auto chat = cache.open();
  kv::row_plan plan(2, policy, kv::uniform{}, 8);
  std::vector<std::vector<int>> memory(2);  // the engine's rows: the position that each one holds
  for (const int n : {60, 1, 1, 1, 1, 1, 30, 1, 1}) {
    const int first = chat.length();
    test::feed(cache, chat, s, n);
    plan.append(n);
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < n; ++i) memory[static_cast<std::size_t>(h)].push_back(first + i);
      plan.observe(h, mass(s, h, memory[static_cast<std::size_t>(h)], first, n), n);
    }
    const auto trims = plan.trim(n > 1 ? kv::row_plan_step::prompt_end : kv::row_plan_step::decode);
    for (int h = 0; h < 2; ++h) {
      auto& rows = memory[static_cast<std::size_t>(h)];
      const auto& trim = trims[static_cast<std::size_t>(h)];
      const int before = static_cast<int>(rows.size());
      for (const kv::row_move m : trim.moves)
        rows[static_cast<std::size_t>(m.to)] = rows[static_cast<std::size_t>(m.from)];
      rows.resize(static_cast<std::size_t>(trim.rows));
      CHECK(rows == chat.positions(0, h));
      CHECK(std::vector<int>(plan.positions(h).begin(), plan.positions(h).end()) == rows);
      CHECK(trim.first_free_page == (trim.rows + 7) / 8);
      CHECK(trim.first_free_page + trim.freed_pages == (before + 7) / 8);
    }
  }
}

TEST_CASE("a plan refuses what does not fit its rows", "[row_plan]") {
  kv::row_plan plan(2, kv::h2o{.heavy = 2, .recent = 2});
  plan.append(3);
  const std::vector<float> two(2, 0.1f);
  CHECK_THROWS_AS(plan.observe(0, two, 1), kv::shape_error);
  CHECK_THROWS_AS(plan.append(-1), kv::shape_error);
  const kv::head_signals wrong{.last_attention = two, .window_attention = {}, .keys = {}};
  const std::vector<kv::head_signals> heads{wrong, wrong};
  CHECK_THROWS_AS(plan.trim(kv::row_plan_step::decode, heads), kv::shape_error);
  CHECK_THROWS_AS(kv::row_plan(0, kv::h2o{}), kv::shape_error);
  CHECK_THROWS_AS(kv::row_plan(1, kv::h2o{.heavy = 0, .recent = 0}), kv::shape_error);
  CHECK(plan.rows(1) == 3);
}

TEST_CASE("nothing moves while rows are within the budget or no trim is due", "[row_plan]") {
  kv::row_plan plan(1, kv::h2o{.heavy = 4, .recent = 4, .when = kv::every(3)});
  plan.append(8);
  CHECK(plan.trim(kv::row_plan_step::prompt_end)[0].moves.empty());
  for (int i = 1; i <= 6; ++i) {
    plan.append(1);
    const auto trim = plan.trim(kv::row_plan_step::decode)[0];
    CHECK(trim.rows == (i % 3 == 0 ? 8 : 8 + i % 3));
  }
}

}  // namespace row_plan_test
