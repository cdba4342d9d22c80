// SPDX-License-Identifier: Apache-2.0
#include <tersekv/merge/d2o.hpp>

#include "laws/merger.hpp"

namespace kv = tersekv;
using laws::fold_case;

static_assert(kv::merger<kv::d2o>);

namespace d2o_test {

constexpr int dim = 4;

/// Row 0 stays with key e0; rows 1 .. leave with cosine u[i - 1] to it; a last row stays, orthogonal to all.
fold_case around_one(const std::vector<float>& u) {
  const int n = static_cast<int>(u.size()) + 2;
  std::vector<int> leaving(u.size());
  std::iota(leaving.begin(), leaving.end(), 1);
  fold_case c(n, dim, leaving);
  c.set(c.keys, 0, {2, 0, 0, 0});
  for (int i = 1; i < n - 1; ++i) {
    const float x = u[static_cast<std::size_t>(i - 1)], length = 0.5f + static_cast<float>(i);
    c.set(c.keys, i, {length * x, length * std::sqrt(1 - x * x), 0, 0});
  }
  c.set(c.keys, n - 1, {0, 0, 0, 3});
  return c;
}

double total_weight(const fold_case& c) {  // values of all rows are one: what comes out is the sum of the weights
  return static_cast<double>(c.values[0]);
}

TEST_CASE("d2o keeps the laws of mergers", "[merge]") { laws::merger(kv::d2o{}); }
TEST_CASE("the rule of d2o's code keeps the laws of mergers", "[merge]") {
  laws::merger(kv::d2o{.rule = kv::d2o_rule::released_code});
}

TEST_CASE("d2o's first threshold is the mean of the largest similarities, the next ones follow it slowly", "[merge]") {
  const kv::d2o merge{.alpha = 0.25f, .beta = 0.75f};
  fold_case first = around_one({0.9f, 0.3f, 0.6f}), second = around_one({0.2f, 0.4f}), third = around_one({1.0f});
  auto state = first.fold(merge);
  CHECK(state.tau == Approx(0.6));
  state = second.fold(merge, state);
  CHECK(state.tau == Approx(0.25 * 0.6 + 0.75 * 0.3));
  const float before = state.tau;
  state = third.fold(merge, state);
  CHECK(state.tau == Approx(0.25 * before + 0.75));
}

TEST_CASE("a threshold that has fallen keeps what it would have refused before", "[merge]") {
  const kv::d2o merge{};
  kv::d2o::head_state strict{0.9f, true};
  fold_case a = around_one({0.5f}), b = around_one({0.5f});
  a.fold(merge, strict);  // tau = 0.7
  CHECK(a.changed[0] == 0);
  b.fold(merge, {0.3f, true});  // tau = 0.4
  CHECK(b.changed[0] == 1);
}

TEST_CASE("d2o folds with the paper's convex weights", "[merge]") {
  const std::vector<float> u{0.8f, 0.2f, 0.7f, 0.1f};  // mean 0.45: the first and the third are folded
  fold_case c = around_one(u);
  const fold_case before = c;
  c.fold(kv::d2o{});
  const double e = std::exp(1.0), w1 = std::exp(0.8), w3 = std::exp(0.7), sum = e + w1 + w3;
  for (int x = 0; x < dim; ++x) {
    const auto at = static_cast<std::size_t>(x);
    CHECK(c.key(0)[at] ==
          Approx((e * before.key(0)[at] + w1 * before.key(1)[at] + w3 * before.key(3)[at]) / sum).margin(1e-6));
    CHECK(c.value(0)[at] ==
          Approx((e * before.value(0)[at] + w1 * before.value(1)[at] + w3 * before.value(3)[at]) / sum).margin(1e-6));
  }
  std::fill(c.values.begin(), c.values.end(), 1.0f);
  c = around_one(u);
  std::fill(c.values.begin(), c.values.end(), 1.0f);
  c.fold(kv::d2o{});
  CHECK(total_weight(c) == Approx(1));
}

TEST_CASE("the weights of d2o's code sum to (1 + sum u) / (1 + n): vectors shrink", "[merge]") {
  const std::vector<float> u{0.8f, 0.2f, 0.7f, 0.1f};
  fold_case c = around_one(u);
  const fold_case before = c;
  c.fold(kv::d2o{.rule = kv::d2o_rule::released_code});
  for (std::size_t x = 0; x < dim; ++x)
    CHECK(c.value(0)[x] ==
          Approx((before.value(0)[x] + 0.8 * before.value(1)[x] + 0.7 * before.value(3)[x]) / 3).margin(1e-6));
  c = around_one(u);
  std::fill(c.values.begin(), c.values.end(), 1.0f);
  c.fold(kv::d2o{.rule = kv::d2o_rule::released_code});
  CHECK(total_weight(c) == Approx((1 + 0.8 + 0.7) / 3));
}

TEST_CASE("copies of a row that stays are folded into it and leave it as it was, under both rules", "[merge]") {
  for (const auto rule : {kv::d2o_rule::paper, kv::d2o_rule::released_code}) {
    fold_case c = around_one({1.0f, 1.0f, 1.0f});
    for (int i = 1; i < 4; ++i) c.copy(i, 0);
    const fold_case before = c;
    c.fold(kv::d2o{.rule = rule});
    CHECK(c.changed[0] == 1);
    for (std::size_t x = 0; x < dim; ++x) {
      CHECK(c.key(0)[x] == Approx(before.key(0)[x]).margin(1e-6));
      CHECK(c.value(0)[x] == Approx(before.value(0)[x]).margin(1e-6));
    }
  }
}

TEST_CASE("rows orthogonal to all that stay are dropped, whatever positive threshold", "[merge]") {
  fold_case c = around_one({0.0f, 0.0f});
  const fold_case before = c;
  c.fold(kv::d2o{.beta = 0}, {1e-3f, true});
  CHECK((c.values == before.values && c.keys == before.keys));
}

TEST_CASE("d2o looks for the nearest key by angle, not by length", "[merge]") {
  fold_case c(4, 2, {1});
  c.set(c.keys, 0, {100, 100}), c.set(c.keys, 1, {1, 0.1f}), c.set(c.keys, 2, {0.01f, 0}), c.set(c.keys, 3, {0, 0});
  c.fold(kv::d2o{});
  CHECK((c.changed == std::vector<unsigned char>{0, 0, 1, 0}));
}

TEST_CASE("of equally near rows d2o takes the newer one", "[merge]") {
  fold_case c(5, dim, {1});
  for (const int i : {0, 2, 3}) c.set(c.keys, i, c.key(1));
  c.fold(kv::d2o{});
  CHECK((c.changed == std::vector<unsigned char>{0, 0, 0, 1, 0}));
}

TEST_CASE("the order in which rows are folded changes only rounding", "[merge]") {
  const std::vector<float> u{0.9f, 0.7f, 0.8f, 0.95f};
  fold_case a = around_one(u), b = around_one({0.95f, 0.8f, 0.7f, 0.9f});
  for (int i = 1; i <= 4; ++i) b.set(b.keys, i, a.key(5 - i)), b.set(b.values, i, a.value(5 - i));
  b.set(b.values, 0, a.value(0)), b.set(b.keys, 0, a.key(0));
  a.fold(kv::d2o{}, {0, true}), b.fold(kv::d2o{}, {0, true});
  CHECK(test::relative_error(a.values.data(), b.values.data(), dim) < 1e-6);
  CHECK(test::relative_error(a.keys.data(), b.keys.data(), dim) < 1e-6);
}

TEST_CASE("many leavers are searched in blocks, with the same answer", "[merge]") {
  std::vector<int> leaving(150);
  std::iota(leaving.begin(), leaving.end(), 10);
  const fold_case c(200, dim, leaving);
  fold_case copy = c;
  const auto head = copy.head();
  const auto nearest = kv::nearest_by_key(head, c.leave, c.stay);
  REQUIRE(nearest.size() == c.leave.size());
  for (std::size_t i = 0; i < nearest.size(); ++i) {
    double best = -2;
    for (const int s : c.stay) {
      double dot = 0, a = 0, b = 0;
      for (std::size_t x = 0; x < dim; ++x) {
        const double p = c.key(c.leave[i])[x], q = c.key(s)[x];
        dot += p * q, a += p * p, b += q * q;
      }
      best = std::max(best, dot / std::sqrt(a * b));
    }
    CHECK(nearest[i].cosine == Approx(best).margin(1e-6));
  }
}

TEST_CASE("d2o can be told to use sinks, and not to use recent rows", "[merge]") {
  fold_case c = around_one({0.9f});
  c.guard[0] = kv::protection::sink;
  fold_case used = c;
  c.fold(kv::d2o{}, {-1, true});
  CHECK(c.changed[0] == 0);
  CHECK(c.changed[2] == 1);  // the other row takes it
  used.fold(kv::d2o{.guarded = true});
  CHECK(used.changed[0] == 1);

  fold_case recent = around_one({0.9f});
  recent.guard[0] = kv::protection::recent;
  fold_case kept = recent;
  recent.fold(kv::d2o{});
  CHECK(recent.changed[0] == 1);
  kept.fold(kv::d2o{.into_recent = false}, {-1, true});
  CHECK(kept.changed[0] == 0);
}

}  // namespace d2o_test
