// SPDX-License-Identifier: Apache-2.0
// What the newest queries look at, as policies are told at the end of a prompt, against float64: taken while they
// attend, or at commit from the queries that were kept.
#include <tersekv/newest_queries.hpp>

#include <tersekv/share/cla.hpp>

#include "catch.hpp"
#include "index.hpp"
#include "support.hpp"

namespace kv = tersekv;

namespace newest_queries_test {

using test::at;

/// Keeps the newest rows; writes down what it was told. Also asks for masses, so that blocks of queries are short.
template <bool Masses>
struct witness {
  using role = kv::role::evict;
  using needs = std::conditional_t<Masses, kv::list<kv::fact::query_window, kv::fact::attention_mass>,
                                   kv::list<kv::fact::query_window>>;
  using provides = kv::list<>;
  static constexpr std::string_view name = "witness";
  static constexpr int columns = 0;
  struct told {
    int slot, head, queries;
    std::vector<int> position;
    std::vector<float> attention;
  };

  int rows = 8, window = 4;
  std::vector<told>* log = nullptr;
  kv::trigger when = kv::at_prompt_end;

  int queries() const { return window; }
  int budget() const { return rows; }
  kv::protection protects(kv::row r) const { return r.age < rows ? kv::protection::recent : kv::protection::none; }
  void score(const kv::scored_head& head, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.0f);
    log->push_back({head.slot,
                    head.head,
                    head.window_queries,
                    {head.position.begin(), head.position.end()},
                    {head.window_attention.begin(), head.window_attention.end()}});
  }
};

struct scene {
  kv::model_shape shape;
  int window, question;
  std::vector<int> chunks;
  int earlier = 0;  // tokens of a prompt before this one, of which some rows are left
};

/// What the witness should have been told of a head: the largest difference from float64.
template <class Told>
double worst_of(const scene& c, const test::stream& s, const kv::layer_plan& plan, const Told& told) {
  const kv::model_shape& shape = s.shape;
  std::vector<double> want(told.position.size(), 0.0);
  int writer = 0;
  while (plan.slot(writer) != told.slot) ++writer;
  const int last = s.tokens - c.question, first = std::max(c.earlier, last - c.window);
  for (int layer = 0; layer < shape.layers; ++layer) {
    if (plan.slot(layer) != told.slot) continue;
    for (int t = first; t < last; ++t)
      for (int g = 0; g < shape.group(); ++g) {
        const float* q = s.query(layer, t, told.head * shape.group() + g);
        std::vector<double> p;
        double sum = 0;
        for (const int position : told.position) {
          double x = 0;
          for (int d = 0; d < shape.head_dim; ++d)
            x += static_cast<double>(q[d]) * static_cast<double>(s.key(writer, position, told.head)[d]);
          p.push_back(position <= t ? std::exp(x * static_cast<double>(shape.scale)) : 0.0);
          sum += p.back();
        }
        for (std::size_t i = 0; i < p.size(); ++i) want[i] += p[i] / sum / shape.group();
      }
  }
  REQUIRE(told.attention.size() == want.size());
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(told.attention[i]) - want[i]));
  return worst;
}

/// How the last chunk goes: as usual; or attended before with other queries; or its rows replaced after it attended.
enum class last_chunk { once, twice, replaced };

template <bool Masses, class Share>
void check(const scene& c, Share share, last_chunk kind) {
  int tokens = c.earlier;
  for (const int n : c.chunks) tokens += n;
  test::stream s(c.shape, tokens, 3), other(c.shape, tokens, 4);
  std::vector<typename witness<Masses>::told> log;
  auto cache =
      kv::make_cache(c.shape, kv::cpu{}, kv::dense<float>{}, share, witness<Masses>{.window = c.window, .log = &log});
  auto chat = cache.open();
  if (c.earlier > 0) test::feed(cache, chat, s, c.earlier), log.clear();
  const int held = chat.rows(0, 0);
  for (std::size_t i = 0; i + 1 < c.chunks.size(); ++i) test::feed(cache, chat, s, c.chunks[i], {.more = true});
  const int n = c.chunks.back(), first = tokens - n;
  {
    auto step = chat.step(n, {.question = c.question});
    if (kind == last_chunk::twice) test::run(cache, step, other, first, n);
    if (kind == last_chunk::replaced) {
      for (int layer = 0; layer < c.shape.layers; ++layer)
        if (cache.owns(layer)) step.append(layer, other.keys(layer, first, n), other.values(layer, first, n));
      std::vector<float> out(at(n * s.shape.query_heads * s.shape.value_dim));
      for (int layer = 0; layer < c.shape.layers; ++layer)
        step.attend(layer, s.queries(layer, first, n), {out.data(), n, s.shape.query_heads, s.shape.value_dim});
      for (int layer = 0; layer < c.shape.layers; ++layer)
        if (cache.owns(layer)) step.append(layer, s.keys(layer, first, n), s.values(layer, first, n));
    } else {
      test::run(cache, step, s, first, n);
    }
    step.commit();
  }
  const bool older = c.chunks.size() > 1 && n - c.question < c.window;  // queries of earlier chunks have 16 bit
  const kv::layer_plan plan = share.plan(c.shape.layers);
  CHECK(held == std::min(c.earlier, 8));
  REQUIRE(log.size() == at(plan.slots() * c.shape.kv_heads));
  for (const auto& told : log) {
    INFO("slot " << told.slot << ", head " << told.head);
    CHECK(told.queries == std::min(c.window, tokens - c.earlier - c.question));
    CHECK(told.position.size() == at(held + tokens - c.earlier));
    CHECK(worst_of(c, s, plan, told) < (older ? 1e-4 : 2e-6) * c.window);
  }
}

const std::vector<scene> scenes = {
    {{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 16}, 5, 0, {300}},      // a window within a block
    {{.layers = 1, .query_heads = 8, .kv_heads = 1, .head_dim = 24}, 30, 0, {70}},      // across two blocks
    {{.layers = 1, .query_heads = 8, .kv_heads = 1, .head_dim = 24}, 90, 7, {260}},     // four, and a question
    {{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16}, 33, 3, {64}},      // more than half of the prompt
    {{.layers = 1, .query_heads = 4, .kv_heads = 1, .head_dim = 16}, 100, 0, {90}},     // more than all of it
    {{.layers = 2, .query_heads = 8, .kv_heads = 2, .head_dim = 16}, 40, 0, {75, 96}},  // in the last of two chunks
    {{.layers = 2, .query_heads = 8, .kv_heads = 2, .head_dim = 16}, 40, 9, {75, 36}},  // in both
    {{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16}, 6, 1, {12}},       // straight from packed pages
    {{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 16}, 20, 0, {100}, 150},  // where rows have left
};

TEST_CASE("policies are told what the newest queries look at", "[core]") {
  for (const scene& c : scenes)
    for (const last_chunk kind : {last_chunk::once, last_chunk::twice, last_chunk::replaced}) {
      CAPTURE(c.window, c.question, c.chunks, static_cast<int>(kind));
      check<false>(c, kv::own{}, kind);
      check<true>(c, kv::own{}, kind);
    }
}

TEST_CASE("what the newest queries look at is summed over the layers that read a slot", "[core]") {
  for (scene c : scenes) {
    c.shape.layers = 5;
    CAPTURE(c.window, c.question, c.chunks);
    check<false>(c, kv::cla<2>{}, last_chunk::once);
    check<true>(c, kv::cla<2>{}, last_chunk::replaced);
  }
}

}  // namespace newest_queries_test
