// SPDX-License-Identifier: Apache-2.0
// Codecs that write each row alone, inside a cache.
#include <tersekv/adapt/through.hpp>
#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/evict/h2o.hpp>

#include "laws/cached.hpp"

namespace kv = tersekv;

TEST_CASE("attention over packed rows is attention over the decoded rows", "[codec]") {
  for (const int dim : {8, 40, 64, 80, 96, 128}) {
    const kv::model_shape shape{.layers = 1, .query_heads = 64, .kv_heads = 16, .head_dim = dim, .value_dim = 48};
    laws::attends_decoded_rows(shape, 133, {100, 1}, kv::dense<float>{});
    laws::attends_decoded_rows(shape, 133, {100, 1}, kv::dense<kv::half>{});
    laws::attends_decoded_rows(shape, 133, {100, 1}, kv::int8<>{});
    laws::attends_decoded_rows(shape, 133, {31, 7}, kv::keys<kv::int8<>>{}, kv::values<kv::int4<16>>{});
    if (dim % 32 == 0) laws::attends_decoded_rows(shape, 70, {1}, kv::keys<kv::q8_0>{}, kv::values<kv::int4<0>>{});
    laws::attends_decoded_rows(shape, 70, {69, 1}, kv::through<kv::hadamard, kv::int4<0>>{{.seed = 2}, {}});
  }
}

TEST_CASE("packed bytes do not depend on how tokens came in steps", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 64, .kv_heads = 16, .head_dim = 64};
  laws::does_not_depend_on_steps(shape, 170, kv::int8<>{});
  laws::does_not_depend_on_steps(shape, 170, kv::keys<kv::q8_0>{}, kv::values<kv::int4<0>>{});
}

TEST_CASE("forks of packed rows do not see each other", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 32};
  laws::forks_apart(shape, 50, kv::int8<>{});
  laws::forks_apart(shape, 64, kv::keys<kv::q8_0>{}, kv::values<kv::int4<0>>{});
}

TEST_CASE("a cache refuses head dimensions that its codec cannot take", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 64, .value_dim = 40};
  CHECK_THROWS_AS(kv::make_cache(shape, kv::cpu{}, kv::int4<>{}), kv::shape_error);
  CHECK_THROWS_AS(kv::make_cache(shape, kv::cpu{}, kv::q8_0{}), kv::shape_error);
  CHECK_NOTHROW(kv::make_cache(shape, kv::cpu{}, kv::keys<kv::int4<>>{}, kv::values<kv::int4<8>>{}));
  const auto of = [](int head_dim, int value_dim) {
    const kv::model_shape large{
        .layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = head_dim, .value_dim = value_dim};
    return kv::make_cache(large, kv::cpu{}, kv::int8<>{});
  };
  CHECK_NOTHROW(of(1024, 1024));
  CHECK_THROWS_WITH(of(1056, 64), "tersekv::cache: head_dim 1056, value_dim 64; at most 1024");
  CHECK_THROWS_AS(of(64, 1025), kv::shape_error);
}

TEST_CASE("packed rows that are moved by an eviction keep their bits", "[codec]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 64, .scale = 1};
  test::stream s(shape, 300);
  auto all = kv::make_cache(shape, kv::cpu{}, kv::int8<>{});
  auto few = kv::make_cache(shape, kv::cpu{}, kv::int8<>{}, kv::h2o{.heavy = 40, .recent = 20});
  auto a = all.open();
  auto b = few.open();
  for (int i = 0; i < 200; ++i) test::feed(all, a, s, 1), test::feed(few, b, s, 1);
  const auto kept = b.positions(0, 0);
  REQUIRE(kept.size() == 60);
  // A weight is rounded beside those of its neighbours, to 1 / 32512; a wrong code would be off by 1 / 127.
  for (const int t : kept) {
    const auto moved = laws::value_read(few, b, s, t), stayed = laws::value_read(all, a, s, t);
    for (std::size_t c = 0; c < moved.size(); ++c) CHECK(moved[c] == Approx(stayed[c]).margin(2e-4));
  }
}
