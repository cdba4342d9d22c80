// SPDX-License-Identifier: Apache-2.0
// The grammar: order means nothing, defaults fill in, policies of the user fit. What is refused is in tests/reject.
#include "support.hpp"

#include <type_traits>

#include <tersekv/evict/h2o.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace compose_test {

/// A policy as a user writes it: keep even positions.
struct even_positions {
  using role = tersekv::role::evict;
  static constexpr int columns = 0;
  int rows = 8;
  kv::trigger when = kv::every_step;
  void score(const kv::scored_head& head, std::span<float> out) const {
    for (int i = 0; i < head.rows(); ++i)
      out[static_cast<std::size_t>(i)] = head.position[static_cast<std::size_t>(i)] % 2 == 0 ? 1.0f : 0.0f;
  }
  kv::protection protects(kv::row r) const { return r.age == 0 ? kv::protection::recent : kv::protection::none; }
  int budget() const { return rows; }
};

TEST_CASE("equal recipes in another order are the same type", "[compose]") {
  using a = kv::cache<kv::cpu, kv::h2o, kv::dense<float>>;
  CHECK(std::is_same_v<a, kv::cache<kv::dense<float>, kv::cpu, kv::h2o>>);
  CHECK(std::is_same_v<a, kv::cache<kv::h2o, kv::dense<float>, kv::drop, kv::cpu, kv::own>>);
  CHECK_FALSE(std::is_same_v<a, kv::cache<kv::cpu, kv::h2o>>);
  CHECK(std::is_same_v<kv::cache<kv::cpu>, kv::cache<kv::cpu, kv::dense<kv::half>>>);
  CHECK(std::is_same_v<a, decltype(kv::make_cache(kv::model_shape{}, kv::h2o{}, kv::cpu{}, kv::dense<float>{}))>);
}

TEST_CASE("keys and values may have codecs of their own, in any order", "[compose]") {
  using a = kv::cache<kv::cpu, kv::keys<kv::dense<float>>, kv::values<kv::dense<kv::half>>>;
  CHECK(std::is_same_v<a, kv::cache<kv::values<kv::dense<kv::half>>, kv::cpu, kv::keys<kv::dense<float>>>>);
  CHECK(std::is_same_v<a, kv::cache<kv::cpu, kv::keys<kv::dense<float>>>>);  // an unnamed half is dense<half>
}

TEST_CASE("a recipe can be asked whether it composes", "[compose]") {
  CHECK(kv::composes<kv::cpu, kv::h2o>);
  CHECK_FALSE(kv::composes<kv::h2o>);
  CHECK_FALSE(kv::composes<kv::cpu, kv::h2o, even_positions>);
  CHECK_FALSE(kv::composes<kv::cpu, int>);
  CHECK_FALSE(kv::composes<kv::cpu, kv::dense<float>, kv::keys<kv::dense<float>>>);
}

TEST_CASE("tuning travels from the braces to the policy", "[compose]") {
  auto cache = kv::make_cache({.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 8},
                              kv::h2o{.heavy = 3, .recent = 5}, kv::cpu{});
  CHECK(cache.evict().heavy == 3);
  CHECK(cache.evict().recent == 5);
  CHECK_THROWS_AS(kv::make_cache(cache.shape(), kv::h2o{.heavy = 0, .recent = 0}, kv::cpu{}), kv::shape_error);
}

TEST_CASE("a policy written by a user needs no change in the library", "[compose]") {
  test::stream s({.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8}, 40, 1);
  auto cache = kv::make_cache(s.shape, kv::cpu{}, even_positions{.rows = 5});
  auto chat = cache.open();
  test::feed(cache, chat, s, 20);
  CHECK(chat.positions(0, 0) == std::vector<int>{12, 14, 16, 18, 19});
  for (int i = 0; i < 3; ++i) test::feed(cache, chat, s, 1);
  CHECK(chat.positions(0, 0) == std::vector<int>{14, 16, 18, 20, 22});
}

TEST_CASE("rows that the caller protects never leave", "[compose]") {
  test::stream s({.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8}, 60, 2);
  auto cache = kv::make_cache(s.shape, kv::cpu{}, even_positions{.rows = 5});
  auto chat = cache.open();
  chat.protect(3, 6);
  test::feed(cache, chat, s, 20);
  CHECK(chat.positions(0, 0) == std::vector<int>{3, 4, 5, 18, 19});
  chat.protect(18, 30);
  for (int i = 0; i < 10; ++i) test::feed(cache, chat, s, 1);
  CHECK(chat.rows(0, 0) == 3 + 12);  // the caller outranks the budget
  CHECK_THROWS_AS(chat.protect(5, 4), kv::shape_error);
}

}  // namespace compose_test
