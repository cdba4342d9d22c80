// SPDX-License-Identifier: Apache-2.0
// Memory is really freed, shared until changed, and counted as the allocator sees it.
#include "support.hpp"

#include <tersekv/tersekv.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace memory_test {

const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 32};

kv::cpu on(test::counting_resource& memory) {
  kv::cpu backend;
  backend.memory = &memory;
  return backend;
}

TEST_CASE("a cache holds the kept rows and a page more per head, two while single rows come and go", "[memory]") {
  test::counting_resource memory;
  test::stream s(shape, 1000, 1);
  auto cache = kv::make_cache(shape, on(memory), kv::h2o{.heavy = 40, .recent = 37});
  auto chat = cache.open();
  const auto page = static_cast<std::size_t>(cache.page_bytes()) + 32 * 8;  // with the columns of its rows
  const std::size_t row = 64 * 2 + 8;
  test::feed(cache, chat, s, 900);
  CHECK(memory.held <= 4 * (77 * row + page));
  CHECK(memory.held == cache.bytes());
  CHECK(memory.held == chat.report().bytes);
  for (int i = 0; i < 100; ++i) {
    test::feed(cache, chat, s, 1);
    REQUIRE(chat.rows(1, 0) == 77);
    // columns keep two steps of growth: 2 * (32 + n / 64) rows of 8 bytes
    REQUIRE(memory.held <= 4 * (77 * row + 2 * page + 2 * 33 * 8));
  }
}

TEST_CASE("freeing a sequence returns everything", "[memory]") {
  test::counting_resource memory;
  test::stream s(shape, 300, 2);
  {
    auto cache = kv::make_cache(shape, on(memory), kv::h2o{.heavy = 40, .recent = 40});
    {
      auto a = cache.open();
      auto b = cache.open();
      test::feed(cache, a, s, 200);
      const std::size_t one = memory.held;
      test::feed(cache, b, s, 150);
      auto c = b.fork();
      auto moved = std::move(b);
      test::feed(cache, c, s, 50);
      CHECK(memory.held > one);
      a = cache.open();  // what `a` held is returned on assignment, too
      CHECK(a.length() == 0);
    }
    CHECK(memory.held == 0);
    CHECK(cache.bytes() == 0);
  }
  auto cache = std::make_unique<kv::cache<kv::cpu>>(shape, on(memory));
  auto chat = cache->open();
  cache.reset();  // a sequence may outlive its cache object
  CHECK(chat.length() == 0);
}

TEST_CASE("forks share pages until one side changes them", "[memory]") {
  test::counting_resource memory;
  test::stream s(shape, 400, 3);
  auto cache = kv::make_cache(shape, on(memory), kv::dense<float>{});
  auto a = cache.open();
  test::feed(cache, a, s, 250);
  const std::size_t alone = memory.held;
  auto b = a.fork();
  CHECK(memory.held - alone < alone / 10);  // positions and page lists only
  auto twin = cache.open();
  test::feed(cache, twin, s, 250);
  // both sides write into their own copy of the unfinished page
  const auto x = test::feed(cache, a, s, 1);
  CHECK(test::feed(cache, b, s, 1) == x);
  CHECK(test::feed(cache, twin, s, 1) == x);
  const std::size_t forked = memory.held;
  test::feed(cache, b, s, 100);
  CHECK(test::feed(cache, a, s, 7) == test::feed(cache, twin, s, 7));
  CHECK(memory.held > forked);
  CHECK(test::worst_error(s, test::feed(cache, b, s, 1), 351, 1) < 1e-5);
}

TEST_CASE("trimming one fork leaves the other's rows alone", "[memory]") {
  test::stream s(shape, 400, 4);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::h2o{.heavy = 50, .recent = 50}, kv::dense<float>{});
  auto a = cache.open();
  auto twin = cache.open();
  for (auto* x : {&a, &twin}) test::feed(cache, *x, s, 100);
  auto b = a.fork();
  for (int i = 0; i < 90; ++i) test::feed(cache, b, s, 1);
  for (int i = 0; i < 60; ++i) CHECK(test::feed(cache, a, s, 1) == test::feed(cache, twin, s, 1));
  CHECK(a.positions(0, 1) == twin.positions(0, 1));
  CHECK(b.positions(0, 1) != a.positions(0, 1));
}

TEST_CASE("an allocator that refuses leaves everything as it was", "[memory]") {
  test::counting_resource memory;
  test::stream s(shape, 300, 5);
  auto cache = kv::make_cache(shape, on(memory), kv::h2o{.heavy = 100, .recent = 30}, kv::dense<float>{});
  auto chat = cache.open();
  auto twin = cache.open();
  test::feed(cache, chat, s, 100);
  test::feed(cache, twin, s, 100);
  for (std::size_t room = 0; room < 60000; room += 1777) {
    auto step = chat.step(100);
    test::run(cache, step, s, 100, 100);
    memory.limit = memory.held + room;
    bool committed = false;
    try {
      step.commit();
      committed = true;
    } catch (const std::bad_alloc&) {
    }
    memory.limit = 0;
    if (committed) break;
    CHECK(chat.length() == 100);
    CHECK(chat.positions(1, 1) == twin.positions(1, 1));
  }
  if (chat.length() == 100) test::feed(cache, chat, s, 100);
  test::feed(cache, twin, s, 100);
  CHECK(test::feed(cache, chat, s, 1) == test::feed(cache, twin, s, 1));
}

/// Calls of operator new in 100 decoded tokens, besides those for what the cache holds, which come from its resource.
template <class... Policies>
std::size_t news_of_tokens(const Policies&... policies) {
  test::stream s(shape, 400, 6);
  test::counting_resource memory;
  auto cache = kv::make_cache(shape, on(memory), policies...);
  auto chat = cache.open();
  test::feed(cache, chat, s, 200);
  for (int i = 0; i < 80; ++i) test::feed(cache, chat, s, 1);  // until a page's worth of rows has left twice
  std::vector<float> out(4 * 32);
  const std::size_t before = test::news;
  for (int i = 0; i < 100; ++i) {
    auto step = chat.step(1);
    const int t = chat.length();
    for (int l = 0; l < 2; ++l) {
      step.append(l, s.keys(l, t, 1), s.values(l, t, 1));
      step.attend(l, s.queries(l, t, 1), kv::view(out.data(), 1, 4, 32));
    }
    step.commit();
  }
  return test::news - before;
}

TEST_CASE("a decoded token allocates nothing but what the cache holds", "[memory]") {
#if defined(__SANITIZE_ADDRESS__)
  WARN("not counted under the address sanitizer");
#endif
  CHECK(news_of_tokens(kv::dense<kv::half>{}) == 0);
  CHECK(news_of_tokens(kv::int4<>{}, kv::quest{}) == 0);
  CHECK(news_of_tokens(kv::int4<>{}, kv::streaming_llm{.sinks = 4, .recent = 60}) == 0);
  CHECK(news_of_tokens(kv::int4<>{}, kv::h2o{.heavy = 60, .recent = 60}) == 0);
  CHECK(news_of_tokens(kv::kivi<2, 32, 32>{}) == 0);  // but where single rows leave: joining pages takes memory
  CHECK(news_of_tokens(kv::dense<kv::half>{}, kv::tova{.rows = 100}) == 0);
}

TEST_CASE("a report counts every open sequence, and pages as the pool holds them", "[memory]") {
  test::stream s(shape, 300, 7);
  auto cache = kv::make_cache(shape, kv::cpu{});
  auto a = cache.open();
  auto b = cache.open();
  test::feed(cache, a, s, 64);
  test::feed(cache, b, s, 32);
  const kv::report_data r = kv::report(cache);
  CHECK(r.sequences == 2);
  CHECK(r.tokens == 96);
  CHECK(r.rows_kept == 96 * 4);
  CHECK(r.rows_seen == 96 * 4);
  CHECK(r.full_bytes_f16 == 96 * 4 * 64 * 2);
  CHECK(r.page_bytes == 3 * 4 * cache.page_bytes());
  CHECK(r.bytes == cache.bytes());
  CHECK(r.bits_per_number == Approx(8.0 * static_cast<double>(r.bytes) / (96 * 4 * 64)));
  CHECK(r.bits_per_number > 16);
  CHECK(r.compression == Approx(static_cast<double>(r.full_bytes_f16) / static_cast<double>(r.bytes)));
}

}  // namespace memory_test
