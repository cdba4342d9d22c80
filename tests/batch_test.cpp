// SPDX-License-Identifier: Apache-2.0
// Steps that go on as a batch.
#include "laws/batch.hpp"

#include <limits>

#include <tersekv/any_cache.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/snapkv.hpp>
#include <tersekv/tersekv.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace batch_test {

const kv::model_shape small{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16};

TEST_CASE("a batch of steps is its steps one after the other", "[batch]") {
  laws::batch<kv::cpu, kv::cpu>(0, 20, kv::int4<>{});
  laws::batch<kv::cpu, kv::cpu>(0, 20, kv::h2o{.heavy = 12, .recent = 8, .when = kv::every(3)}, kv::d2o{},
                                kv::kivi<4, 8, 8>{});
  laws::batch<kv::cpu, kv::cpu>(0, 12, kv::snapkv{.rows = 24, .window = 8, .when = kv::every_chunk}, kv::int8<>{});
}

TEST_CASE("a batch that runs out of memory has changed no sequence", "[batch]") {
  test::stream s(small, 400, 3);
  test::counting_resource memory;
  kv::cpu backend;
  backend.memory = &memory;
  {
    auto cache = kv::make_cache(small, backend, kv::int8<>{});
    auto free = kv::make_cache(small, kv::cpu{}, kv::int8<>{});
    std::deque<decltype(cache)::sequence_type> chats, twins;
    for (int i = 0; i < 3; ++i) {
      chats.push_back(cache.open()), twins.push_back(free.open());
      test::feed(cache, chats[i], s, 30 + i), test::feed(free, twins[i], s, 30 + i);
    }
    int refused = 0;
    {
      laws::steps_of steps(cache, chats, {{100}, {50}, {200}}, s);
      for (int l = 0; l < 2; ++l) steps.layer(l, true);
      const std::size_t before = memory.held;
      for (memory.limit = before + 1;; memory.limit += 4096) try {
          kv::commit(steps.all());
          break;
        } catch (const std::bad_alloc&) {
          ++refused;
          for (int i = 0; i < 3; ++i) REQUIRE(chats[i].length() == 30 + i);
        }
      CHECK_THROWS_AS(kv::commit(steps.all()), kv::usage_error);  // all are closed
    }
    memory.limit = 0;
    CHECK(refused > 5);
    for (int i = 0; i < 3; ++i) {
      test::feed(free, twins[i], s, i == 0 ? 100 : i == 1 ? 50 : 200);
      REQUIRE(test::feed(cache, chats[i], s, 1) == test::feed(free, twins[i], s, 1));
    }
  }
  CHECK(memory.held == 0);
}

TEST_CASE("wrong batches are refused with a sentence and change nothing", "[batch]") {
  test::stream s(small, 60, 4);
  auto cache = kv::make_cache(small, kv::cpu{}, kv::dense<float>{}), other = cache;
  other = kv::make_cache(small, kv::cpu{}, kv::dense<float>{});
  std::deque<decltype(cache)::sequence_type> chats;
  chats.push_back(cache.open()), chats.push_back(cache.open()), chats.push_back(other.open());
  using step = decltype(cache)::step_type;
  step one(chats[0], 2, {}), two(chats[1], 3, {}), foreign(chats[2], 2, {});
  std::vector<kv::view> k{s.keys(0, 0, 2), s.keys(0, 0, 3)}, v{s.values(0, 0, 2), s.values(0, 0, 3)};
  std::vector<step*> both{&one, &two}, strange{&one, &foreign}, twice{&one, &one}, none;
  CHECK_THROWS_AS(kv::append(both, 0, std::span(k).first(1), v), kv::shape_error);
  CHECK_THROWS_AS(kv::append(both, 0, k, std::span(v).first(1)), kv::shape_error);
  CHECK_THROWS_AS(kv::append(both, 0, std::vector<kv::view>{k[0], k[0]}, v), kv::shape_error);
  CHECK_THROWS_AS(kv::append(strange, 0, std::vector<kv::view>{k[0], k[0]}, std::vector<kv::view>{v[0], v[0]}),
                  kv::usage_error);
  CHECK_THROWS_AS(kv::append(twice, 0, std::vector<kv::view>{k[0], k[0]}, std::vector<kv::view>{v[0], v[0]}),
                  kv::usage_error);
  kv::append(both, 0, k, v);
  const float before = std::exchange(s.k[1][2 * 2 * 16], std::numeric_limits<float>::quiet_NaN());
  k = {s.keys(1, 0, 2), s.keys(1, 0, 3)};
  CHECK_THROWS_AS(kv::append(both, 1, k, v), kv::value_error);  // in the second
  CHECK_THROWS_AS(one.commit(), kv::usage_error);               // and the first has nothing of it
  s.k[1][2 * 2 * 16] = before;
  one.append(1, s.keys(1, 0, 2), s.values(1, 0, 2));
  CHECK_THROWS_AS(kv::commit(both), kv::usage_error);
  two.append(1, s.keys(1, 0, 3), s.values(1, 0, 3));
  CHECK_THROWS_AS(kv::commit(both, std::vector<int>{1}), kv::shape_error);
  CHECK_THROWS_AS(kv::commit(both, std::vector<int>{1, 4}), kv::shape_error);
  CHECK_THROWS_AS(kv::commit(twice), kv::usage_error);
  CHECK_THROWS_AS(kv::commit(strange), kv::usage_error);
  CHECK(chats[0].length() + chats[1].length() == 0);
  kv::commit(both, std::vector<int>{2, 1});
  CHECK(chats[0].length() == 2);
  CHECK(chats[1].length() == 1);
  kv::append(none, 0, {}, {});
  kv::commit(none);
  CHECK_THROWS_AS(kv::attend(none, 0, std::span(k), {}), kv::shape_error);
}

TEST_CASE("steps whose recipe is chosen at run time go on as a batch", "[batch]") {
  test::stream s(small, 60, 4);
  kv::menu menu;
  menu.add<kv::cpu, kv::h2o>();
  menu.add<kv::cpu, kv::int8<>>();
  kv::any_cache cache = menu.make(small, "h2o=12+8", kv::cpu{}), other = menu.make(small, "int8", kv::cpu{});
  kv::any_sequence a = cache.open(), b = cache.open(), twin = cache.open(), stranger = other.open();
  const auto rows = [&](int first) { return std::vector<kv::view>{s.keys(0, first, 30), s.keys(0, 0, 30)}; };
  kv::any_step one = a.step(30), two = b.step(30), alone = twin.step(30), strange = stranger.step(30);
  const std::vector<kv::any_step*> both{&one, &two}, mixed{&one, &strange};
  for (int l = 0; l < 2; ++l) {
    kv::append(both, l, rows(30), rows(30));
    alone.append(l, s.keys(0, 30, 30), s.keys(0, 30, 30));
  }
  CHECK_THROWS_AS(kv::append(mixed, 0, rows(0), rows(0)), kv::usage_error);
  CHECK_THROWS_AS(kv::commit(mixed), kv::usage_error);
  kv::commit(both), alone.commit();
  CHECK(b.length() == 30);
  CHECK(a.positions(1, 1).size() == 20);
  CHECK(a.positions(1, 1) == twin.positions(1, 1));
}

}  // namespace batch_test
