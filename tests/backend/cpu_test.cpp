// SPDX-License-Identifier: Apache-2.0
// Decoding through the public interface: threads, drafts, groups of query heads, memory.
#include <tersekv/backend/cpu.hpp>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/int8.hpp>

#include "support.hpp"

#include "catch.hpp"

namespace kv = tersekv;

namespace {

std::atomic<std::size_t> news{0};  // calls of operator new in this program

/// All tokens but the last `left`, without attending.
template <class Cache, class Sequence>
void fill(const Cache& cache, Sequence& chat, test::stream& s, int left) {
  while (chat.length() < s.tokens - left) {
    const int n = std::min(2000, s.tokens - left - chat.length());
    auto step = chat.step(n);
    for (int l = 0; l < s.shape.layers; ++l)
      if (cache.owns(l)) step.append(l, s.keys(l, chat.length(), n), s.values(l, chat.length(), n));
    step.commit();
  }
}

/// Outputs of the last n tokens as one step of decoding, and how many pieces of work a thread could take at most.
template <class Codec>
std::vector<std::vector<float>> decoded(test::stream s, int n, int threads, int* work_items = nullptr) {
  std::atomic<int> most{0};
  kv::cpu backend;
  if (threads > 0)
    backend.parallel = [&, threads](int count, const std::function<void(int)>& work) {
      most = std::max(most.load(), count);
      std::vector<std::thread> pool;
      for (int t = 0; t < threads; ++t)
        pool.emplace_back([&, t] {
          for (int i = threads - 1 - t; i < count; i += threads) work(i);
        });
      for (auto& t : pool) t.join();
    };
  auto cache = kv::make_cache(s.shape, backend, Codec{});
  auto chat = cache.open();
  fill(cache, chat, s, n);
  auto out = test::feed(cache, chat, s, n, {.decode = true});
  if (work_items) *work_items = most;
  return out;
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__)  // which has an operator new of its own
[[gnu::noinline]] void* operator new(std::size_t n) {
  ++news;
  if (void* p = std::malloc(n)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  ++news;
  return std::malloc(n);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

TEST_CASE("one head of one long sequence is work for many threads, with the same bits for any number", "[backend]") {
  for (const int kv_heads : {1, 2}) {
    const test::stream s({.layers = 1, .query_heads = 4, .kv_heads = kv_heads, .head_dim = 64}, 20001, 3);
    const auto serial = decoded<kv::int8<>>(s, 1, 0);
    CHECK(test::worst_error(s, serial, 20000, 1) < 3e-2);
    for (const int threads : {1, 2, 3, 7}) {
      int items = 0;
      CHECK(decoded<kv::int8<>>(s, 1, threads, &items) == serial);
      CHECK(items >= 8 * kv_heads);
    }
  }
}

TEST_CASE("drafts of several tokens see each other in order, for any group of query heads", "[backend]") {
  for (const int group : {1, 2, 3, 4, 5, 6, 7, 8, 16})
    for (const int n : {1, 2, 4, 8}) {
      if (n > 1 && group != 1 && group != 4 && group != 7) continue;
      const test::stream s({.layers = 1, .query_heads = 2 * group, .kv_heads = 2, .head_dim = 64}, 150 + n,
                           static_cast<unsigned>(100 * group + n));
      CAPTURE(group, n);
      CHECK(test::worst_error(s, decoded<kv::dense<kv::half>>(s, n, 0), 150, n) < 2e-3);
      CHECK(test::worst_error(s, decoded<kv::int8<>>(s, n, 0), 150, n) < 3e-2);
      CHECK(decoded<kv::int8<>>(s, n, 3) == decoded<kv::int8<>>(s, n, 0));
    }
}

TEST_CASE("values of another size than keys go through packed rows", "[backend]") {
  const test::stream s({.layers = 1, .query_heads = 6, .kv_heads = 2, .head_dim = 96, .value_dim = 40}, 161, 8);
  CHECK(test::worst_error(s, decoded<kv::int8<>>(s, 1, 0), 160, 1) < 3e-2);
  CHECK(test::worst_error(s, decoded<kv::dense<kv::half>>(s, 1, 2), 160, 1) < 2e-3);
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("attending allocates nothing once it has been done", "[backend]") {
  test::stream s({.layers = 2, .query_heads = 8, .kv_heads = 2, .head_dim = 64}, 3101, 5);
  auto cache = kv::make_cache(s.shape, kv::cpu{}, kv::int8<>{});
  auto chat = cache.open();
  fill(cache, chat, s, 101);
  std::vector<float> out(8 * 64);
  const kv::view to(out.data(), 1, 8, 64);
  std::size_t while_growing = 0;
  for (int i = 0; i < 100; ++i) {
    const int t = chat.length();
    auto step = chat.step(1);
    for (int l = 0; l < 2; ++l) {
      step.append(l, s.keys(l, t, 1), s.values(l, t, 1));
      const std::size_t before = news;
      step.attend(l, s.queries(l, t, 1), to);
      if (i > 0) while_growing += news - before;
      const std::size_t first = news;
      step.attend(l, s.queries(l, t, 1), to);
      CHECK(news == first);
    }
    step.commit();
  }
  CHECK(while_growing <= 4);
}
#endif
