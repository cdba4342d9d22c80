// SPDX-License-Identifier: Apache-2.0
// What goes wrong on a device is said, and changes nothing.
#include <limits>

#include <tersekv/backend/cuda.cuh>

#include "../../support.hpp"

#include "../../catch.hpp"

namespace kv = tersekv;

namespace {

const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64};

/// One token with a number in q, k or v replaced; returns what commit says.
template <class Cache>
std::string spoiled(const Cache& cache, typename Cache::sequence_type& sequence, test::stream s, char which) {
  auto& x = which == 'k' ? s.k[1] : which == 'v' ? s.v[1] : s.q[1];
  const int heads = which == 'q' ? 4 : 2, at = sequence.length();
  x[static_cast<std::size_t>((at * heads + 1) * 64 + 7)] = std::numeric_limits<float>::quiet_NaN();
  auto step = sequence.step(1);
  test::run(cache, step, s, at, 1);
  try {
    step.commit();
  } catch (const kv::value_error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("numbers that are not finite are refused by commit, and the sequence stands", "[cuda]") {
  test::stream s(shape, 40, 3);
  auto cache = kv::make_cache(shape, kv::cuda{}, kv::h2o{.heavy = 8, .recent = 8}, kv::int4<>{});
  auto chat = cache.open(), twin = cache.open();
  test::feed(cache, chat, s, 20), test::feed(cache, twin, s, 20);
  for (const char which : {'k', 'v', 'q'}) {
    const std::string said = spoiled(cache, chat, s, which);
    CHECK(said.find(std::string("commit: ") + which + " of layer 1 has NaN or infinity in token 0") !=
          std::string::npos);
    CHECK(chat.length() == 20);
  }
  for (int i = 0; i < 3; ++i) CHECK(test::feed(cache, chat, s, 1) == test::feed(cache, twin, s, 1));
  CHECK(chat.positions(1, 1) == twin.positions(1, 1));
}

TEST_CASE("out of memory, the step is still whole and may be tried again", "[cuda]") {
  test::counting_resource memory;
  {
    test::stream s(shape, 200, 3);
    auto cache = kv::make_cache(shape, kv::cuda{.memory = &memory}, kv::int8<>{});
    auto chat = cache.open();
    test::feed(cache, chat, s, 60);
    const std::size_t before = memory.held;
    auto step = chat.step(100);
    test::run(cache, step, s, 60, 100);
    memory.limit = memory.held;
    CHECK_THROWS(step.commit());
    CHECK(chat.length() == 60);
    memory.limit = 0;
    step.commit();
    CHECK(chat.length() == 160);
    CHECK(chat.rows(0, 0) == 160);
    CHECK(memory.held > before);
  }
  CHECK(memory.held == 0);
}

TEST_CASE("a limit in bytes holds for pages, windows and columns", "[cuda]") {
  test::stream s(shape, 3000, 3);
  auto cache = kv::make_cache(shape, kv::cuda{.max_bytes = 300000}, kv::int8<>{});
  auto chat = cache.open();
  int fed = 0;
  try {
    for (; fed < 3000; fed += 100) test::feed(cache, chat, s, 100, {.more = true});
  } catch (const kv::capacity_error&) {
  }
  CHECK(fed > 0);
  CHECK(fed < 3000);
  CHECK(chat.length() == fed);
  CHECK(cache.bytes() <= 300000);
}

TEST_CASE("wrong uses are told apart", "[cuda]") {
  test::stream s(shape, 40, 3);
  auto cache = kv::make_cache(shape, kv::cuda{});
  auto chat = cache.open();
  auto step = chat.step(2);
  CHECK_THROWS_AS(chat.fork(), kv::usage_error);
  CHECK_THROWS_AS(step.append(0, s.keys(0, 0, 1), s.values(0, 0, 2)), kv::shape_error);
  std::vector<kv::half> halves(2 * 2 * 64);
  step.append(0, s.keys(0, 0, 2), s.values(0, 0, 2));
  const kv::view other(halves.data(), 2, 2, 64);
  CHECK_THROWS_AS(step.append(1, other, other), kv::usage_error);
  CHECK_THROWS_AS(step.commit(), kv::usage_error);
  CHECK_THROWS_AS(chat.protect(3, 1), kv::shape_error);
}
