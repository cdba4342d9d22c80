// SPDX-License-Identifier: Apache-2.0
#include <tersekv/adapt/sinks.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/keys_values.hpp>
#include <tersekv/codec/kivi.hpp>

#include "laws/cached.hpp"

namespace kv = tersekv;

TEST_CASE("sinks stay in 16 bit after any number of appends", "[adapt]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 64, .scale = 1};
  test::stream s(shape, 300);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::sinks<5, kv::int4<>>{});
  auto sequence = cache.open();
  test::feed(cache, sequence, s, 3);  // the sinks come in two steps
  test::feed(cache, sequence, s, 90);
  for (int i = 0; i < 3; ++i) {
    for (int t = 0; t < 5; ++t) CHECK(laws::holds_exactly(cache, sequence, s, t));
    CHECK_FALSE(laws::holds_exactly(cache, sequence, s, 5));
    CHECK_FALSE(laws::holds_exactly(cache, sequence, s, 60));
    test::feed(cache, sequence, s, 60);
  }
  CHECK(sequence.report().kept[0].window == 5);
  CHECK(sequence.report().kept[0].packed == 268);
}

TEST_CASE("attention sees sinks and packed rows as they are stored", "[adapt]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 64, .kv_heads = 16, .head_dim = 64, .value_dim = 96};
  laws::does_not_depend_on_steps(shape, 150, kv::sinks<4, kv::int4<>>{});
  laws::does_not_depend_on_steps(shape, 250, kv::sinks<7, kv::kivi<2, 32, 64>>{});
  laws::forks_apart(shape, 100, kv::sinks<4, kv::kivi<4, 32, 32>>{});
  laws::attends_decoded_rows(shape, 3, {1}, kv::sinks<4, kv::int4<>>{});  // nothing but sinks
}

TEST_CASE("the larger of two sinks counts", "[adapt]") {
  using both = kv::sinks<4, kv::sinks<9, kv::int4<>>>;
  CHECK(both::sinks == 9);
  const kv::model_shape shape{.layers = 1, .query_heads = 64, .kv_heads = 16, .head_dim = 32};
  laws::attends_decoded_rows(shape, 80, {33, 1}, kv::keys<kv::sinks<6, kv::int4<>>>{}, kv::values<kv::int4<>>{});
}

TEST_CASE("sinks carry the name, numbers and window of their codec", "[adapt]") {
  using wrapped = kv::sinks<4, kv::kivi<2>>;
  CHECK(wrapped::name == "kivi@sinks");
  CHECK(wrapped::structure == std::array{2, 32, 128, 4});
  CHECK(wrapped::window == 128);
  CHECK(kv::composes<kv::cpu, wrapped>);
}
