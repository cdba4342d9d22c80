// SPDX-License-Identifier: Apache-2.0
// The law of the container: with default policies and an f32 codec, attention is attention.
#include "support.hpp"

#include <thread>

#include <tersekv/evict/h2o.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace attend_test {

/// Feeds the stream in the given chunks and compares every output with float64 attention.
double worst_over(test::stream& s, const std::vector<int>& chunks) {
  auto cache = kv::make_cache(s.shape, kv::cpu{}, kv::dense<float>{});
  auto chat = cache.open();
  double worst = 0;
  for (const int n : chunks) {
    const int first = chat.length();
    worst = std::max(worst, test::worst_error(s, test::feed(cache, chat, s, n), first, n));
  }
  return worst;
}

TEST_CASE("attention over an f32 cache equals float64 attention for every shape", "[attend]") {
  struct {
    int query_heads, kv_heads, head_dim, value_dim;
  } const shapes[] = {{1, 1, 8, 8},   {4, 4, 16, 16}, {8, 1, 24, 24},   {8, 2, 40, 40},
                      {6, 2, 64, 16}, {2, 1, 7, 33},  {14, 2, 128, 128}};
  for (const auto& x : shapes) {
    test::stream s({.layers = 1,
                    .query_heads = x.query_heads,
                    .kv_heads = x.kv_heads,
                    .head_dim = x.head_dim,
                    .value_dim = x.value_dim},
                   71, 7);
    CAPTURE(x.query_heads, x.kv_heads, x.head_dim, x.value_dim);
    CHECK(worst_over(s, {1}) < 1e-5);
    CHECK(worst_over(s, {33, 1, 1, 36}) < 1e-5);
  }
}

TEST_CASE("the way a prompt is cut into chunks does not change the result", "[attend]") {
  test::stream s({.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16}, 300, 3);
  CHECK(worst_over(s, {300}) < 1e-5);
  CHECK(worst_over(s, {127, 1, 129, 43}) < 1e-5);
  CHECK(worst_over(s, {5, 5, 90, 200}) < 1e-5);
  CHECK(worst_over(s, std::vector<int>(300, 1)) < 1e-5);
}

TEST_CASE("logits of eighty and a dominant row do no harm", "[attend]") {
  test::stream s({.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16}, 200, 5, 4.5f);
  for (int c = 0; c < 16; ++c) s.k[0][static_cast<std::size_t>(150 * 16 + c)] *= 3;
  CHECK(worst_over(s, {200}) < 1e-4);  // logits near 300: float products alone lose 1e-5 of them
  test::stream spread({.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16}, 200, 6, 2.5f);
  CHECK(worst_over(spread, {150, 50}) < 1e-5);
}

TEST_CASE("log-sum-exp is returned on request, and partial states merge to the whole", "[attend]") {
  test::stream s({.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 16}, 40, 9);
  auto cache = kv::make_cache(s.shape, kv::cpu{}, kv::dense<float>{});
  auto chat = cache.open();
  test::feed(cache, chat, s, 39);
  auto step = chat.step(1);
  step.append(0, s.keys(0, 39, 1), s.values(0, 39, 1));
  std::vector<float> out(4 * 16), lse(4);
  step.attend(0, s.queries(0, 39, 1), kv::view(out.data(), 1, 4, 16), lse);
  for (int h = 0; h < 4; ++h) {
    std::vector<const float*> keys, values;
    for (int t = 0; t < 40; ++t) keys.push_back(s.key(0, t, h / 2)), values.push_back(s.value(0, t, h / 2));
    double want = 0;
    test::attention(s.query(0, 39, h), keys, values, 16, 16, 0.25, {}, &want);
    CHECK(lse[static_cast<std::size_t>(h)] == Approx(want).epsilon(1e-5));
  }
  std::vector<float> wrong(3);
  CHECK_THROWS_AS(step.attend(0, s.queries(0, 39, 1), kv::view(out.data(), 1, 4, 16), wrong), kv::shape_error);
}

TEST_CASE("strided views of 16-bit numbers are read and written in place", "[attend]") {
  // one buffer [tokens, 2 * kv_heads + query_heads, dim], as engines with a fused projection have it
  const int n = 5, dim = 8, heads = 2 + 2 + 4;
  const auto numbers = test::normal(static_cast<std::size_t>(n * heads * dim), 11);
  std::vector<kv::bfloat16> fused(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) fused[i] = kv::from_float<kv::bfloat16>(numbers[i]);
  const auto part = [&](int head, int count) {
    return kv::view(fused.data() + head * dim, n, count, dim, heads * dim);
  };
  auto cache =
      kv::make_cache({.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = dim}, kv::cpu{}, kv::dense<float>{});
  auto chat = cache.open();
  auto step = chat.step(n);
  step.append(0, part(0, 2), part(2, 2));
  std::vector<kv::half> out(static_cast<std::size_t>(4 * n * dim + 3));
  step.attend(0, part(4, 4), kv::view(out.data(), n, 4, dim, dim, n * dim));  // [query_heads, n, dim]: heads first
  const auto number = [&](int t, int head, int c) {
    return kv::to_float(fused[static_cast<std::size_t>((t * heads + head) * dim + c)]);
  };
  for (int h = 0; h < 4; ++h)
    for (int t = 0; t < n; ++t) {
      std::vector<std::vector<float>> rows;
      for (const int first : {h / 2, 2 + h / 2, 4 + h})
        for (int p = 0; p <= t; ++p) {
          rows.emplace_back();
          for (int c = 0; c < dim; ++c) rows.back().push_back(number(first >= 4 ? t : p, first, c));
        }
      std::vector<const float*> keys, values;
      for (int p = 0; p <= t; ++p)
        keys.push_back(rows[static_cast<std::size_t>(p)].data()),
            values.push_back(rows[static_cast<std::size_t>(t + 1 + p)].data());
      const auto want = test::attention(rows.back().data(), keys, values, dim, dim, 1 / std::sqrt(8.0));
      for (int c = 0; c < dim; ++c)
        CHECK(kv::to_float(out[static_cast<std::size_t>((h * n + t) * dim + c)]) ==
              Approx(want[static_cast<std::size_t>(c)]).margin(2e-3));
    }
}

TEST_CASE("results do not depend on the caller's threads", "[attend]") {
  test::stream s({.layers = 1, .query_heads = 8, .kv_heads = 4, .head_dim = 16}, 150, 13);
  kv::cpu backwards;
  backwards.parallel = [](int n, const std::function<void(int)>& work) {
    for (int i = n; i-- > 0;) work(i);
  };
  for (const kv::cpu& backend : {backwards, test::on_threads(3)}) {
    auto one = kv::make_cache(s.shape, kv::cpu{}, kv::dense<kv::half>{});
    auto other = kv::make_cache(s.shape, backend, kv::dense<kv::half>{});
    auto a = one.open();
    auto b = other.open();
    for (const int n : {100, 1, 49}) CHECK(test::feed(one, a, s, n) == test::feed(other, b, s, n));
  }
}

TEST_CASE("sequences of one cache may be used on different threads", "[attend]") {
  test::stream s({.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16}, 140, 19);
  auto cache = kv::make_cache(s.shape, kv::cpu{}, kv::h2o{.heavy = 20, .recent = 20}, kv::dense<kv::half>{});
  const auto work = [&](std::vector<std::vector<float>>& last) {
    auto chat = cache.open();
    auto mine = s;
    test::feed(cache, chat, mine, 60);
    auto fork = chat.fork();
    for (int i = 0; i < 70; ++i) last = test::feed(cache, chat, mine, 1), test::feed(cache, fork, mine, 1);
  };
  std::vector<std::vector<float>> alone, first, second;
  work(alone);
  std::thread a([&] { work(first); }), b([&] { work(second); });
  a.join(), b.join();
  CHECK(first == alone);
  CHECK(second == alone);
  CHECK(cache.bytes() == 0);
}

TEST_CASE("dense 16-bit codecs are exact up to their rounding", "[attend]") {
  test::stream s({.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 32}, 120, 17);
  auto f16 = kv::make_cache(s.shape, kv::cpu{});
  auto bf16 = kv::make_cache(s.shape, kv::cpu{}, kv::dense<kv::bfloat16>{});
  auto a = f16.open();
  auto b = bf16.open();
  test::feed(f16, a, s, 119);
  test::feed(bf16, b, s, 119);
  CHECK(test::worst_error(s, test::feed(f16, a, s, 1), 119, 1) < 2e-3);
  CHECK(test::worst_error(s, test::feed(bf16, b, s, 1), 119, 1) < 2e-2);
  CHECK(a.report().page_bytes == b.report().page_bytes);
}

}  // namespace attend_test
