// SPDX-License-Identifier: Apache-2.0
// kivi inside a cache: its window, its groups, and what may leave them.
#include <tersekv/adapt/through.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/evict/h2o.hpp>

#include "laws/cached.hpp"

namespace kv = tersekv;

TEST_CASE("attention over kivi is attention over its decoded groups and its window", "[codec]") {
  for (const int dim : {8, 40, 64, 80, 96, 128}) {
    const kv::model_shape shape{.layers = 1, .query_heads = 64, .kv_heads = 16, .head_dim = dim, .value_dim = 64};
    laws::attends_decoded_rows(shape, 250, {100, 40, 1}, kv::kivi<2>{});
    laws::attends_decoded_rows(shape, 130, {99, 1}, kv::keys<kv::kivi<4, 8, 16>>{}, kv::values<kv::int8<>>{});
  }
  const kv::model_shape shape{.layers = 1, .query_heads = 64, .kv_heads = 16, .head_dim = 64};
  laws::attends_decoded_rows(shape, 200, {180, 1}, kv::kivi<4, 32, 0>{});
  laws::attends_decoded_rows(shape, 127, {1}, kv::kivi<2>{});  // all in the window
  laws::attends_decoded_rows(shape, 300, {299, 1}, kv::through<kv::hadamard, kv::kivi<3, 64, 0>>{});
}

TEST_CASE("kivi's bytes do not depend on how tokens came in steps", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 64, .kv_heads = 16, .head_dim = 32};
  laws::does_not_depend_on_steps(shape, 300, kv::kivi<2>{});
  laws::does_not_depend_on_steps(shape, 300, kv::kivi<4, 64, 32, kv::sealed>{});
}

TEST_CASE("forks of kivi do not see each other", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 32};
  laws::forks_apart(shape, 150, kv::kivi<2>{});
  laws::forks_apart(shape, 101, kv::kivi<4, 8, 16>{});  // a page is filled in several goes
}

TEST_CASE("the newest rows of kivi are exact in 16 bit, whatever came before", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 64, .scale = 1};
  test::stream s(shape, 600);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::kivi<2, 32, 48>{});
  auto sequence = cache.open();
  std::mt19937 engine(3);
  int coarse = 0;
  while (sequence.length() < 500) {
    const int n = 1 + static_cast<int>(engine() % 70),
              accepted = 1 + static_cast<int>(engine() % static_cast<unsigned>(n));
    {
      auto dropped = sequence.step(2);
      test::run(cache, dropped, s, sequence.length(), 2);
    }
    auto step = sequence.step(n);
    test::run(cache, step, s, sequence.length(), n);
    step.commit(accepted);
    const int length = sequence.length(), window = sequence.report().kept[0].window;
    CHECK(window >= std::min(length, 48));
    CHECK(window < 48 + 32);
    for (int t = std::max(0, length - 48); t < length; ++t) REQUIRE(laws::holds_exactly(cache, sequence, s, t));
    if (length > window) coarse += laws::holds_exactly(cache, sequence, s, length - window - 1) ? 0 : 1;
  }
  CHECK(coarse > 5);  // and those before the window are not
}

TEST_CASE("single rows may leave kivi's groups only where they may be reopened", "[codec]") {
  CHECK(kv::composes<kv::cpu, kv::h2o, kv::kivi<2>>);
  CHECK(kv::composes<kv::cpu, kv::h2o, kv::kivi<2, 32, 128, kv::reopened>>);
  CHECK_FALSE(kv::composes<kv::cpu, kv::h2o, kv::kivi<2, 32, 128, kv::sealed>>);
  CHECK(kv::composes<kv::cpu, kv::kivi<2, 32, 128, kv::sealed>>);
}

TEST_CASE("rows that are evicted around kivi's groups leave the others readable", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 64, .scale = 1};
  test::stream s(shape, 700);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::kivi<4, 32, 32>{}, kv::h2o{.heavy = 80, .recent = 40});
  auto sequence = cache.open();
  for (int i = 0; i < 600; ++i) test::feed(cache, sequence, s, 1);
  const auto kept = sequence.positions(0, 0);
  REQUIRE(kept.size() == 120);
  CHECK(sequence.report().page_bytes < 6 * cache.page_bytes());
  for (const int t : kept) {
    const auto got = laws::value_read(cache, sequence, s, t);
    CHECK(test::relative_error(got.data(), s.value(0, t, 0), 64) < 0.25);  // 4 bits, rewritten a few times
  }
}

TEST_CASE("a cache refuses value dimensions that kivi's groups do not divide", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 40};
  CHECK_THROWS_AS(kv::make_cache(shape, kv::cpu{}, kv::kivi<2>{}), kv::shape_error);
}

TEST_CASE("kivi states its numbers for recipe strings", "[codec]") {
  CHECK(kv::kivi<2>::name == "kivi");
  CHECK(kv::kivi<2>::structure == std::array{2, 32, 128});
  CHECK(kv::kivi<2, 32, 128, kv::sealed>::name == "kivi_sealed");
}
