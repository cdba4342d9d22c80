// SPDX-License-Identifier: Apache-2.0
// Decoding through the public interface: threads, drafts, groups of query heads, memory.
#include <tersekv/backend/cpu.hpp>

#include <tersekv/adapt/cache_positions.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/snapkv.hpp>
#include <tersekv/evict/streaming_llm.hpp>
#include <tersekv/rotary/rope.hpp>
#include <tersekv/share/layer_map.hpp>

#include "support.hpp"

#include "catch.hpp"

namespace kv = tersekv;

namespace cpu_test {

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
  auto cache = kv::make_cache(s.shape, test::on_threads(threads, &most), Codec{});
  auto chat = cache.open();
  fill(cache, chat, s, n);
  auto out = test::feed(cache, chat, s, n, {.decode = true});
  if (work_items) *work_items = most;
  return out;
}

/// Outputs of a prompt after `past` packed rows and of the token after it, and the positions that are left.
template <class... Policies>
auto prompted(test::stream s, int past, int threads, std::atomic<int>* most, const Policies&... policies) {
  auto cache = kv::make_cache(s.shape, test::on_threads(threads, most), kv::int8<>{}, policies...);
  auto chat = cache.open();
  const int n = s.tokens - 1 - past;
  fill(cache, chat, s, n + 1);
  auto out = test::feed(cache, chat, s, n);
  for (auto& one : test::feed(cache, chat, s, 1)) out.push_back(std::move(one));
  return std::pair(std::move(out), chat.positions(0, 0));
}

template <class... Policies>
void same_for_any_threads(const test::stream& s, int past, int items, const Policies&... policies) {
  const auto serial = prompted(s, past, 0, nullptr, policies...);
  for (const int threads : {1, 2, 7}) {
    std::atomic<int> most{0};
    CAPTURE(threads);
    CHECK(prompted(s, past, threads, &most, policies...) == serial);
    CHECK(most == items);
  }
}

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

TEST_CASE("pieces of work are longer where many heads have many rows, with the same bits for any threads",
          "[backend]") {
  const test::stream s({.layers = 1, .query_heads = 32, .kv_heads = 32, .head_dim = 16}, 9001, 4);
  const auto serial = decoded<kv::int8<>>(s, 1, 0);
  CHECK(test::worst_error(s, serial, 9000, 1) < 3e-2);
  int items = 0;
  CHECK(decoded<kv::int8<>>(s, 1, 3, &items) == serial);
  CHECK(items == 32 * 3);  // 8192 rows, the other packed ones, numbers
}

TEST_CASE("one head's long prompt is work for many threads, with the same bits for any number", "[backend]") {
  const test::stream s({.layers = 1, .query_heads = 4, .kv_heads = 1, .head_dim = 32}, 1900, 9);
  same_for_any_threads(s, 300, 25);  // blocks of 64 tokens
  same_for_any_threads(s, 300, 25, kv::snapkv{.rows = 100, .window = 16, .kernel = 5});
  same_for_any_threads(s, 300, 16, kv::h2o{.heavy = 50, .recent = 50});  // lanes
  same_for_any_threads(s, 0, 30, kv::cache_positions<kv::streaming_llm>{{.sinks = 4, .recent = 100}}, kv::rope{});
  const auto [out, left] = prompted(s, 300, 2, nullptr);
  CHECK(test::worst_error(s, {out[0]}, 300, 600) < 3e-2);
  const test::stream heads({.layers = 1, .query_heads = 6, .kv_heads = 2, .head_dim = 32}, 400, 10);
  same_for_any_threads(heads, 0, 10);
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

TEST_CASE("tokens of a draft see their windows, wherever these begin", "[backend]") {
  for (const int past : {255, 256, 1500}) {
    test::stream s({.layers = 2, .query_heads = 4, .kv_heads = 1, .head_dim = 64}, past + 3, 9);
    auto cache = kv::make_cache(s.shape, kv::cpu{}, kv::layer_map<"0_0s">{.window = 2}, kv::int4<>{});
    auto chat = cache.open();
    fill(cache, chat, s, 3);
    const auto out = test::feed(cache, chat, s, 3);
    for (int t = past; t < past + 3; ++t)
      for (int h = 0; h < 4; ++h) {
        CAPTURE(past, t, h);
        const std::ptrdiff_t at = ((t - past) * 4 + h) * 64;
        CHECK(test::relative_error(out[0].data() + at, test::exact(s, 0, t, h).data(), 64) < 0.2);
        const auto want = test::attention(s.query(1, t, h), {s.key(0, t - 1, 0), s.key(0, t, 0)},
                                          {s.value(0, t - 1, 0), s.value(0, t, 0)}, 64, 64, 0.125);
        CHECK(test::relative_error(out[1].data() + at, want.data(), 64) < 0.2);
      }
  }
}

TEST_CASE("values of another size than keys go through packed rows", "[backend]") {
  const test::stream s({.layers = 1, .query_heads = 6, .kv_heads = 2, .head_dim = 96, .value_dim = 40}, 161, 8);
  CHECK(test::worst_error(s, decoded<kv::int8<>>(s, 1, 0), 160, 1) < 3e-2);
  CHECK(test::worst_error(s, decoded<kv::dense<kv::half>>(s, 1, 2), 160, 1) < 2e-3);
}

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
      const std::size_t before = test::news;
      step.attend(l, s.queries(l, t, 1), to);
      if (i > 0) while_growing += test::news - before;
      const std::size_t first = test::news;
      step.attend(l, s.queries(l, t, 1), to);
      CHECK(test::news == first);
    }
    step.commit();
  }
  CHECK(while_growing <= 4);

  const int t = chat.length();
  auto step = chat.step(100);
  step.append(0, s.keys(0, t - 99, 100), s.values(0, t - 99, 100));
  std::vector<float> outs(100 * 8 * 64);
  const kv::view all(outs.data(), 100, 8, 64);
  step.attend(0, s.queries(0, t - 99, 100), all);
  const std::size_t before = test::news;
  step.attend(0, s.queries(0, t - 99, 100), all);
  CHECK(test::news == before);
}

}  // namespace cpu_test
