// SPDX-License-Identifier: Apache-2.0
#include <tersekv/adapt/log_mass.hpp>

#include <tersekv/evict/h2o.hpp>
#include <tersekv/merge/d2o.hpp>
#include <tersekv/merge/weighted_kv.hpp>

#include "laws/merger.hpp"
#include "merge/spy.hpp"

namespace kv = tersekv;
using laws::fold_case;

namespace log_mass_test {

/// Folds every leaver into the next row that stays: means of keys and values, weighed by the tokens rows stand for.
struct mean_into_next {
  using role = kv::role::merge;
  [[maybe_unused]] static constexpr std::string_view name = "mean_into_next";
  [[maybe_unused]] static constexpr int columns = 0;
  static constexpr bool folds = true;
  struct head_state {};
  void fold(kv::fold_head& f, head_state&) const {
    for (const int e : f.leave) {
      const auto c = std::upper_bound(f.stay.begin(), f.stay.end(), e);
      if (c == f.stay.end()) continue;
      const float p = std::exp(f.bias[std::size_t(*c)]), q = std::exp(f.bias[std::size_t(e)]);
      for (std::size_t x = 0; x < std::size_t(f.key_dim); ++x) {
        f.key(*c)[x] += q / (p + q) * (f.key(e)[x] - f.key(*c)[x]);
        f.value(*c)[x] += q / (p + q) * (f.value(e)[x] - f.value(*c)[x]);
      }
      f.absorb(*c, e);
    }
  }
};

/// Attention of q over rows of a case, with their biases.
std::vector<double> attention(const fold_case& c, const std::vector<float>& q, const std::vector<int>& rows,
                              double* log_sum_exp = nullptr) {
  std::vector<const float*> k, v;
  std::vector<double> bias;
  for (const int i : rows) {
    k.push_back(c.keys.data() + i * c.dim), v.push_back(c.values.data() + i * c.dim);
    bias.push_back(static_cast<double>(c.bias[std::size_t(i)]));
  }
  return test::attention(q.data(), k, v, c.dim, c.dim, 1.0, bias, log_sum_exp);
}

std::vector<int> all_rows(const fold_case& c) {
  std::vector<int> out(static_cast<std::size_t>(c.n));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

fold_case with_bias(fold_case c) {
  c.bias.assign(static_cast<std::size_t>(c.n), 0.0f);
  return c;
}

double total_mass(const fold_case& c, const std::vector<int>& rows) {
  double sum = 0;
  for (const int i : rows) sum += std::exp(static_cast<double>(c.bias[std::size_t(i)]));
  return sum;
}

TEST_CASE("log_mass keeps the laws of the policy it wraps", "[adapt]") {
  STATIC_REQUIRE(kv::merger<kv::log_mass<kv::d2o>>);
  STATIC_REQUIRE(kv::log_mass<kv::d2o>::name == "d2o@log_mass");
  STATIC_REQUIRE(kv::log_mass<kv::weighted_kv>::columns == 2);
  laws::merger(kv::log_mass<kv::d2o>{});
}

TEST_CASE("log_mass needs what its policy needs", "[adapt]") {
  STATIC_REQUIRE(kv::composes<kv::cpu, kv::h2o, kv::log_mass<kv::d2o>>);
  STATIC_REQUIRE(!kv::composes<kv::cpu, kv::log_mass<kv::d2o>>);  // nothing leaves
  STATIC_REQUIRE(std::is_same_v<kv::log_mass<kv::weighted_kv>::needs, kv::weighted_kv::needs>);
}

TEST_CASE("absorbing adds masses, and does nothing to masses that nobody keeps", "[adapt]") {
  fold_case c(3, 2, {0, 1});
  c.head().absorb(2, 0);
  CHECK((c.changed == std::vector<unsigned char>{0, 0, 1}));
  c.bias = {std::log(3.0f), std::log(4.0f), 0.0f};
  c.head().absorb(2, 0), c.head().absorb(2, 1);
  CHECK(std::exp(c.bias[2]) == Approx(8));
  c.bias = {200.0f, -200.0f, 0.0f};  // no overflow on the way
  c.head().absorb(1, 0);
  CHECK(c.bias[1] == 200.0f);
}

TEST_CASE("folding identical rows leaves attention unchanged for every query; without masses it does not", "[adapt]") {
  fold_case c = with_bias(fold_case(6, 4, {1, 2, 4}));
  for (const int i : {1, 2, 4}) c.copy(i, 3);  // three copies of row 3
  const fold_case before = c;
  c.fold(kv::log_mass<kv::d2o>{});
  fold_case plain = c;
  std::fill(plain.bias.begin(), plain.bias.end(), 0.0f);
  double off = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    const auto q = test::normal(4, seed);
    double was = 0, is = 0;
    const auto want = attention(before, q, all_rows(before), &was);
    CHECK(test::relative_error(attention(c, q, c.stay, &is).data(), want.data(), 4) < 1e-6);
    CHECK(is == Approx(was));
    off = std::max(off, test::relative_error(attention(plain, q, c.stay).data(), want.data(), 4));
  }
  CHECK(off > 0.1);
  CHECK(total_mass(c, c.stay) == Approx(6));
}

TEST_CASE("equal keys with different values: their mean and the log of their number are exact", "[adapt]") {
  fold_case c = with_bias(fold_case(6, 4, {1, 2}));
  for (const int i : {1, 2}) c.set(c.keys, i, c.key(3));
  const fold_case before = c;
  c.fold(kv::log_mass<mean_into_next>{});
  for (unsigned seed = 0; seed < 20; ++seed) {
    const auto q = test::normal(4, seed);
    CHECK(test::relative_error(attention(c, q, c.stay).data(), attention(before, q, all_rows(before)).data(), 4) <
          1e-6);
  }
}

TEST_CASE("a mean key with the log of its number never receives more than its members did", "[adapt]") {
  fold_case c = with_bias(fold_case(2, 4, {0}));
  const fold_case before = c;
  c.fold(kv::log_mass<mean_into_next>{});
  for (unsigned seed = 0; seed < 50; ++seed) {
    const auto q = test::normal(4, seed, 0.1f);
    double members = 0, mean = 0, difference = 0;
    attention(before, q, {0, 1}, &members), attention(c, q, {1}, &mean);
    for (std::size_t x = 0; x < 4; ++x)
      difference += static_cast<double>(q[x]) * static_cast<double>(before.key(0)[x] - before.key(1)[x]);
    CHECK(mean <= members + 1e-7);
    CHECK(members - mean == Approx(difference * difference / 8).epsilon(0.05).margin(1e-6));  // half the variance
  }
}

TEST_CASE("folding at once and one by one agree for means weighed by mass", "[adapt]") {
  fold_case together = with_bias(fold_case(8, 4, {0, 1, 2, 5})), apart = together;
  together.fold(kv::log_mass<mean_into_next>{});
  for (const int e : {2, 5, 0, 1}) {
    apart.leave = {e};
    apart.fold(kv::log_mass<mean_into_next>{});
  }
  for (const int i : together.stay) {
    CHECK(test::relative_error(together.key(i).data(), apart.key(i).data(), 4) < 1e-6);
    CHECK(test::relative_error(together.value(i).data(), apart.value(i).data(), 4) < 1e-6);
    CHECK(together.bias[std::size_t(i)] == Approx(apart.bias[std::size_t(i)]));
  }
  CHECK(std::exp(together.bias[3]) == Approx(4));
}

// ------------------------------------------------------------------------------------------------------- in a cache
/// Tokens of four kinds: rows of one kind are identical. The last four of the first 32 are one of each.
struct four_kinds : test::stream {
  explicit four_kinds(const kv::model_shape& shape) : test::stream(shape, 70) {
    const test::stream kinds(shape, 4, 8);
    for (int l = 0; l < shape.layers; ++l)
      for (int t = 0; t < tokens; ++t) {
        const int kind = t % 32 >= 28 ? t % 4 : (t * t) % 16 / 4;
        const auto copy = [&](std::vector<float>& to, const std::vector<float>& from) {
          const auto n = from.size() / 4;
          std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(n) * kind, n,
                      to.begin() + static_cast<std::ptrdiff_t>(n) * t);
        };
        copy(k[std::size_t(l)], kinds.k[std::size_t(l)]);
        copy(v[std::size_t(l)], kinds.v[std::size_t(l)]);
      }
  }
};

const kv::model_shape two_layers{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
const kv::h2o newest_four{.heavy = 0, .recent = 4, .when = kv::every(32)};

template <class... Ps>
double error_after_two_trims(Ps... policies) {
  four_kinds s(two_layers);
  auto cache = kv::make_cache(two_layers, kv::cpu{}, policies...);
  auto sequence = cache.open();
  double worst = 0;
  worst = std::max(worst, test::worst_error(s, test::feed(cache, sequence, s, 32), 0, 32));
  while (sequence.length() < 70) {
    const int t = sequence.length();
    worst = std::max(worst, test::worst_error(s, test::feed(cache, sequence, s, 1), t, 1));
  }
  CHECK(sequence.rows(0, 0) == 10);  // trimmed at 32 and at 64
  return worst;
}

TEST_CASE("with log_mass a cache of four rows answers as the full one, when there are four kinds of rows", "[adapt]") {
  CHECK(error_after_two_trims(newest_four, kv::log_mass<kv::d2o>{}, kv::dense<float>{}) < 1e-5);
  CHECK(error_after_two_trims(newest_four, kv::log_mass<kv::d2o>{}) < 2e-3);  // 16 bit
  CHECK(error_after_two_trims(newest_four, kv::d2o{}, kv::dense<float>{}) > 0.05);
}

TEST_CASE("masses add up to the tokens that were not dropped", "[adapt]") {
  test::stream s(two_layers, 60);
  std::vector<test::fold_record> log;
  auto cache = kv::make_cache(two_layers, kv::cpu{}, kv::h2o{.heavy = 6, .recent = 4},
                              kv::log_mass<test::spy<kv::d2o>>{{.log = &log}}, kv::dense<float>{});
  auto sequence = cache.open();
  test::feed(cache, sequence, s, 20);
  while (sequence.length() < 60) test::feed(cache, sequence, s, 1);
  REQUIRE(log.size() == 41u * 4u);
  std::vector<double> held(4, 0);
  int times_dropped = 0, times_folded = 0;
  for (std::size_t i = 0; i < log.size(); ++i) {
    const std::size_t head = i % 4;
    double arrived = 0, before = 0, after = 0, dropped = 0;
    for (const auto& [position, row] : log[i].before) before += std::exp(static_cast<double>(row.bias));
    arrived = i < 4 ? 20 : 1;
    CHECK(before == Approx(held[head] + arrived));  // what was stored is what comes back
    for (const auto& [position, row] : log[i].after) {
      if (row.stays) after += std::exp(static_cast<double>(row.bias));
    }
    std::size_t folded = 0;
    for (const auto& [position, row] : log[i].after) folded += row.stays && row.bias != log[i].before.at(position).bias;
    if (folded == 0)
      for (const auto& [position, row] : log[i].before)
        if (!row.stays) dropped += std::exp(static_cast<double>(row.bias));
    if (i >= 4) {
      CHECK(after == Approx(before - dropped));  // one row leaves: it is folded or dropped
      ++(folded > 0 ? times_folded : times_dropped);
    }
    CHECK(after <= before + 1e-4);
    held[head] = after;
  }
  CHECK(times_folded > 10);
  CHECK(times_dropped > 10);  // thresholds are remembered: a lone leaver always reaches its own mean
}

TEST_CASE("log_mass of a policy that rewrites values only still counts", "[adapt]") {
  test::stream s(two_layers, 40);
  auto cache = kv::make_cache(two_layers, kv::cpu{}, kv::h2o{.heavy = 6, .recent = 4}, kv::log_mass<kv::weighted_kv>{});
  auto sequence = cache.open();
  test::feed(cache, sequence, s, 30);
  test::feed(cache, sequence, s, 1);
  CHECK(sequence.rows(0, 0) == 10);
}

}  // namespace log_mass_test
