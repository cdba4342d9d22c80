// SPDX-License-Identifier: Apache-2.0
// Pages that kernels take are never more than the host has promised, and failing to promise more changes nothing.
#include <algorithm>
#include <list>
#include <optional>

#include <tersekv/backend/cuda.cuh>

#include "../../support.hpp"

#include "../../catch.hpp"

namespace kv = tersekv;

namespace page_store_test {

/// Keeps `rows` rows, scattered over the prompt.
struct scattered {
  using role = kv::role::evict;
  static constexpr std::string_view name = "scattered";
  static constexpr int columns = 0;
  int rows = 100;
  kv::trigger when = kv::at_prompt_end;

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
  }
  TERSEKV_HD float score(const kv::row_signals& all, int j) const {
    return static_cast<float>(static_cast<unsigned>(all.position[j]) * 2654435761u >> 8);
  }
  void score(const kv::scored_head& head, std::span<float> out) const { kv::score_each(*this, head, out); }
  TERSEKV_HD kv::protection protects(kv::row) const { return kv::protection::none; }
  int budget() const { return rows; }
};

/// The next n tokens, which nobody attends to.
template <class Step>
void append(Step& step, test::stream& s, int first, int n) {
  for (int l = 0; l < s.shape.layers; ++l) step.append(l, s.keys(l, first, n), s.values(l, first, n));
}
template <class Sequence>
void push(Sequence& sequence, test::stream& s, int n, kv::step_options options = {}) {
  auto step = sequence.step(n, options);
  append(step, s, sequence.length(), n);
  step.commit();
}
template <class A, class B>
void same_rows(const A& a, const B& b, const kv::model_shape& shape) {
  REQUIRE(a.length() == b.length());
  for (int l = 0; l < shape.layers; ++l)
    for (int h = 0; h < shape.kv_heads; ++h) REQUIRE(a.positions(l, h) == b.positions(l, h));
}

TEST_CASE("pages of few rows are joined, however many there are", "[cuda]") {
  const kv::model_shape shape{.layers = 4, .query_heads = 4, .kv_heads = 4, .head_dim = 16};
  test::stream s(shape, 2200, 5);
  const auto alone = [&](auto codec) {
    auto here = kv::make_cache(shape, kv::cpu{}, scattered{.rows = 200}, codec);
    auto there = kv::make_cache(shape, kv::cuda{}, scattered{.rows = 200}, codec);
    auto a = here.open();
    auto b = there.open();
    for (int i = 0; i < 8; ++i) {
      const kv::step_options options{.more = i < 7};
      push(a, s, 256, options), push(b, s, 256, options);
    }
    same_rows(a, b, shape);
    CHECK(kv::report(a).page_bytes == kv::report(b).page_bytes);
    const auto x = test::feed(here, a, s, 1), y = test::feed(there, b, s, 1);
    for (std::size_t l = 0; l < x.size(); ++l)
      CHECK(test::relative_error(y[l].data(), x[l].data(), static_cast<int>(x[l].size())) < 2e-2);
  };
  alone(kv::kivi<2, 32, 0>{});
  alone(kv::kivi<4, 8, 16>{});
}

TEST_CASE("pages of few rows that a fork shares are joined", "[cuda]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 4, .head_dim = 16};
  test::stream s(shape, 2200, 5);
  auto cache = kv::make_cache(shape, kv::cuda{}, scattered{.rows = 200}, kv::kivi<2, 32, 0>{});
  auto a = cache.open();
  for (int i = 0; i < 7; ++i) push(a, s, 256, {.more = true});
  auto b = a.fork();
  push(a, s, 256), push(b, s, 256);
  same_rows(a, b, shape);
  CHECK(test::feed(cache, a, s, 1) == test::feed(cache, b, s, 1));
}

TEST_CASE("a sequence that is forked again and again has pages for all its copies", "[cuda]") {
  const kv::model_shape shape{.layers = 4, .query_heads = 4, .kv_heads = 4, .head_dim = 16};
  test::stream s(shape, 300, 5);
  auto here = kv::make_cache(shape, kv::cpu{}, scattered{.rows = 128, .when = kv::every_step}, kv::int4<>{});
  auto there = kv::make_cache(shape, kv::cuda{}, scattered{.rows = 128, .when = kv::every_step}, kv::int4<>{});
  auto a = here.open();
  auto b = there.open();
  push(a, s, 160), push(b, s, 160);
  std::list<decltype(a)> forks_a;
  std::list<decltype(b)> forks_b;
  for (int i = 0; i < 12; ++i) {
    forks_a.push_back(a.fork()), forks_b.push_back(b.fork());
    push(a, s, 1), push(b, s, 1);
    same_rows(a, b, shape);
  }
  for (; !forks_a.empty(); forks_a.pop_back(), forks_b.pop_back()) {
    push(forks_a.back(), s, 1), push(forks_b.back(), s, 1);
    same_rows(forks_a.back(), forks_b.back(), shape);
  }
}

TEST_CASE("what sequences were promised is not promised again when there is no memory for more", "[cuda]") {
  const kv::model_shape shape{.layers = 4, .query_heads = 4, .kv_heads = 4, .head_dim = 16};
  const scattered evict{.rows = 128, .when = {.every = 2}};
  test::stream s(shape, 1400, 5);
  for (int pushed = 64; pushed <= 160; pushed += 32) {
    test::counting_resource memory;
    auto here = kv::make_cache(shape, kv::cpu{}, evict, kv::int4<>{});
    auto there = kv::make_cache(shape, kv::cuda{.memory = &memory}, evict, kv::int4<>{});
    auto a = there.open(), b = there.open();
    auto twin_a = here.open(), twin_b = here.open();
    const auto both = [&](auto& x, auto& y, int n, bool more = false) {
      push(x, s, n, {.more = more}), push(y, s, n, {.more = more});
    };
    both(a, twin_a, 160), both(b, twin_b, 8, true);
    const auto fork = a.fork();
    both(a, twin_a, 1);  // copies of all pages are promised; nothing leaves yet
    {
      auto step = b.step(1000, {.more = true});
      append(step, s, b.length(), 1000);
      memory.limit = memory.held + 200000;  // room for columns, not for pages
      CHECK_THROWS(step.commit());
      memory.limit = 0;
    }
    CHECK(b.length() == 8);
    both(b, twin_b, pushed, true);
    both(a, twin_a, 1);
    same_rows(a, twin_a, shape), same_rows(b, twin_b, shape);
    CHECK(fork.rows(0, 0) == 128);
  }
}

TEST_CASE("readers of sliding windows only need columns for no more", "[cuda]") {
  const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16};
  test::stream s(shape, 1000, 5);
  auto cache = kv::make_cache(shape, kv::cuda{}, kv::layer_map<"0s_1s">{.window = 40}, kv::int4<>{});
  auto a = cache.open();
  push(a, s, 200);
  const std::size_t before = cache.bytes();
  for (int i = 0; i < 80; ++i) push(a, s, 10, {.decode = true});
  CHECK(a.rows(1, 1) == 39);  // and the next token
  CHECK(cache.bytes() == before);
}

TEST_CASE("a fork that is gone costs its sequence no more pages", "[cuda]") {
  const kv::model_shape shape{.layers = 4, .query_heads = 4, .kv_heads = 4, .head_dim = 16};
  test::stream s(shape, 500, 5);
  auto cache = kv::make_cache(shape, kv::cuda{}, kv::int4<>{}), other = kv::make_cache(shape, kv::cuda{}, kv::int4<>{});
  auto a = cache.open(), b = other.open();
  push(a, s, 256), push(b, s, 256);
  { const auto draft = a.fork(); }
  for (int i = 0; i < 20; ++i) push(a, s, 4, {.decode = true}), push(b, s, 4, {.decode = true});
  CHECK(cache.bytes() == other.bytes());
}

TEST_CASE("sequences that share few free pages do not end each other's promises at every commit", "[cuda]") {
  kv::pool pool(std::pmr::new_delete_resource(), 128, 0);
  kv::detail::page_store store(pool, 128, nullptr);
  store.ensure(10, 10);
  *store.pages().free_count -= 50;  // held by sequences
  constexpr int sequences = 3, rounds = 20;
  int looks = 0, epoch[sequences] = {};
  for (int r = 0; r < rounds; ++r)
    for (int& mine : epoch) {
      const bool anew = mine != store.epoch();
      looks += store.ensure(anew ? 10 : 1, 10);
      mine = store.epoch();
    }
  CHECK(looks <= 3);
  CHECK(pool.held() < 3 * 64 * 128);  // and not more memory than that takes
}

}  // namespace page_store_test
