// SPDX-License-Identifier: Apache-2.0
#include <tersekv/share/lckv.hpp>

#include "laws/sharer.hpp"
#include "share/tiny_transformer.hpp"

namespace kv = tersekv;
using Catch::Matchers::Contains;

namespace lckv_test {

constexpr int layers = 8, tokens = 24;

/// kv(i) of the paper, for `warm` warm-up layers.
std::vector<int> paper_map(int warm) {
  std::vector<int> out;
  const int target = layers - 1 - warm / 2;
  for (int i = 0; i < layers; ++i) out.push_back(i < warm / 2 ? i : i <= target ? target : i);
  return out;
}

template <int W>
auto lckv_cache(const test::tiny_transformer& m, kv::masked_diagonal diagonal = kv::masked_diagonal::upward_only) {
  return kv::make_cache(m.shape, kv::cpu{}, kv::lckv<W>{.passes = tokens, .diagonal = diagonal}, kv::dense<float>{});
}

/// Decoding, the parallel form after as many passes as tokens, and the recurrence: outputs and rows of all slots.
template <int W>
void agree(kv::masked_diagonal diagonal) {
  const test::tiny_transformer m(layers);
  const auto prompt = m.prompt(tokens);
  const auto want = test::recur(m, paper_map(W), prompt, diagonal == kv::masked_diagonal::everywhere);
  auto cache = lckv_cache<W>(m, diagonal);
  CHECK(test::distance(test::decode_all(m, cache, prompt), want.hidden) < 1e-5);  // float32 against float64

  auto sequence = cache.open();
  const auto run = test::feed_model(m, cache, sequence, prompt);
  CHECK(run.passes == tokens);
  CHECK(test::distance(run.hidden, want.hidden) < 1e-5);
  for (int l = 0; l < layers; ++l) {
    const auto u = static_cast<std::size_t>(l);
    CHECK(cache.owns(l) == !run.keys[u].empty());
    CHECK(cache.owns(l) == !want.keys[u].empty());
    if (!cache.owns(l)) continue;
    CHECK(test::relative_error(run.keys[u].data(), test::packed(want.keys[u]).data(), tokens * m.key_width()) < 1e-5);
    CHECK(test::relative_error(run.values[u].data(), test::packed(want.values[u]).data(), tokens * m.key_width()) <
          1e-5);
  }
  // what was committed is what later tokens read
  const auto longer = m.prompt(tokens + 3);
  const auto continued = test::recur(m, paper_map(W), longer, diagonal == kv::masked_diagonal::everywhere);
  for (std::size_t t = tokens; t < tokens + 3; ++t)
    CHECK(test::distance(test::feed_model(m, cache, sequence, {longer[t]}).hidden[0], continued.hidden[t]) < 1e-5);
}

TEST_CASE("lckv maps the layers as in the paper", "[share]") {
  CHECK(kv::lckv<2>{}.plan(8).text() == "0_6_6_6_6_6_6_7");
  CHECK(kv::lckv<0>{}.plan(4).text() == "3_3_3_3");
  CHECK(kv::lckv<4>{}.plan(8).text() == "0_1_5_5_5_5_6_7");
  CHECK(kv::lckv<10>{}.plan(22).text() == "0_1_2_3_4_16_16_16_16_16_16_16_16_16_16_16_16_17_18_19_20_21");
  CHECK(kv::lckv<2>{}.plan(3).text() == "0_1_2");
  CHECK(kv::lckv<2>{}.plan(8).passes() == 9);
  laws::sharer(kv::lckv<0>{}, 1);
  laws::sharer(kv::lckv<4>{.passes = 3}, 8);
  laws::sharer_in_a_cache(kv::lckv<2>{}, 8);
}

TEST_CASE("lckv refuses models with too few layers", "[share]") {
  CHECK_THROWS_WITH(kv::lckv<4>{}.plan(4), Contains("lckv<4>") && Contains("4 layers") && Contains("at least 5"));
  CHECK_THROWS_AS(kv::make_cache({.layers = 2, .kv_heads = 1, .head_dim = 4}, kv::cpu{}, kv::lckv<2>{}),
                  kv::shape_error);
  CHECK_THROWS_WITH(kv::lckv<2>{.passes = 0}.plan(8), Contains("passes is 0"));
}

TEST_CASE("lckv decodes token by token to what the recurrence says, and so do as many passes as tokens", "[share]") {
  SECTION("no warm-up layers") { agree<0>(kv::masked_diagonal::upward_only); }
  SECTION("two") { agree<2>(kv::masked_diagonal::upward_only); }
  SECTION("four") { agree<4>(kv::masked_diagonal::upward_only); }
}

TEST_CASE("with the diagonal masked everywhere, lckv follows the recurrence that hides every own entry", "[share]") {
  SECTION("no warm-up layers") { agree<0>(kv::masked_diagonal::everywhere); }
  SECTION("two") { agree<2>(kv::masked_diagonal::everywhere); }
  SECTION("four") { agree<4>(kv::masked_diagonal::everywhere); }
}

TEST_CASE("the recurrence notices known mistakes", "[share]") {
  const test::tiny_transformer m(layers);
  const auto prompt = m.prompt(tokens);
  const auto right = test::recur(m, paper_map(2), prompt);
  CHECK(test::distance(test::recur(m, paper_map(2), prompt, true).hidden, right.hidden) > 0.01);
  CHECK(test::distance(test::recur(m, paper_map(2), prompt, false, test::mistake::newest_entry_lost).hidden,
                       right.hidden) > 0.01);
  CHECK(test::distance(test::recur(m, paper_map(2), prompt, false, test::mistake::zero_key_kept).hidden, right.hidden) >
        0.01);
}

TEST_CASE("the first token of an upward layer reads nothing and gets exactly zero", "[share]") {
  const test::tiny_transformer m(layers);
  auto cache = lckv_cache<2>(m);
  for (const int n : {1, 5}) {
    auto sequence = cache.open();
    const auto run = test::feed_model(m, cache, sequence, m.prompt(n));
    for (int l = 0; l < layers; ++l) {
      const std::vector<float>& out = run.attended[static_cast<std::size_t>(l)];
      const bool zero = std::all_of(out.begin(), out.begin() + m.query_width(), [](float x) { return x == 0.0f; });
      CHECK(zero == (l >= 1 && l < 6));
    }
  }
}

TEST_CASE("lckv holds (w + 1) / L of the bytes of a standard cache", "[share]") {
  const test::tiny_transformer m(layers);
  auto standard = kv::make_cache(m.shape, kv::cpu{}, kv::dense<float>{});
  auto none = lckv_cache<0>(m);
  auto two = lckv_cache<2>(m);
  auto a = standard.open();
  auto b = none.open();
  auto c = two.open();
  const auto prompt = m.prompt(40);
  const auto one_pass = [](int) { return true; };
  test::feed_model(m, standard, a, prompt), test::feed_model(m, none, b, prompt, one_pass);
  test::feed_model(m, two, c, prompt, one_pass);
  CHECK(none.bytes() * 8 == standard.bytes());
  CHECK(two.bytes() * 8 == standard.bytes() * 3);
  CHECK(two.report().compression == Approx(standard.report().compression * 8 / 3));
}

TEST_CASE("a map that shares nothing is the standard cache, bit for bit", "[share]") {
  const test::tiny_transformer m(5);
  const auto prompt = m.prompt(tokens);
  auto standard = kv::make_cache(m.shape, kv::cpu{}, kv::dense<float>{});
  auto rounded = kv::make_cache(m.shape, kv::cpu{}, kv::dense<kv::half>{});
  const auto want = test::decode_all(m, standard, prompt);
  CHECK((test::decode_all(m, lckv_cache<4>(m), prompt) == want));
  CHECK((test::decode_all(m, rounded, prompt) != want));  // so that the test can fail
  CHECK(test::distance(test::decode_all(m, lckv_cache<4>(m, kv::masked_diagonal::everywhere), prompt), want) > 0.01);
}

}  // namespace lckv_test
