// SPDX-License-Identifier: Apache-2.0
// What every eviction policy promises, checked through decide() and through a cache. Give a policy of about a dozen
// rows.
#pragma once
#include "../support.hpp"

#include <limits>
#include <set>
#include <string>

#include "../catch.hpp"

namespace laws {

namespace kv = tersekv;

struct expectations {
  bool heads_are_alike = true;  // false: the answer depends on the number of the head
};

namespace detail {

constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }

/// Heads of `n` rows each, at the same random positions; every signal is random.
template <class P>
std::vector<kv::trim_head> random_heads(const P&, int count, int n, unsigned seed, kv::trim_context& context) {
  std::mt19937 engine(seed);
  std::vector<int> position;
  for (int i = 0, p = 0; i < n; ++i, ++p) position.push_back(p += static_cast<int>(engine() % 3) * (i > 2));
  context.seen = n == 0 ? 0 : position.back() + 1;
  context.key_dim = 5, context.window_queries = 4, context.slots = 3, context.slot = 1;
  std::vector<kv::trim_head> heads(at(count));
  for (kv::trim_head& head : heads) {
    head.position = position;
    head.state = test::normal(at(n * P::columns), static_cast<unsigned>(engine()));
    head.last_attention = test::normal(at(n), static_cast<unsigned>(engine()));
    head.window_attention = test::normal(at(n), static_cast<unsigned>(engine()));
    head.keys = test::normal(at(n * 5), static_cast<unsigned>(engine()));
    for (auto* mass : {&head.last_attention, &head.window_attention})
      for (float& x : *mass) x = std::abs(x);
  }
  return heads;
}

template <class P>
std::vector<std::vector<float>> scores_of(const P& policy, const std::vector<kv::trim_head>& heads,
                                          const kv::trim_context& context) {
  std::vector<std::vector<float>> out;
  for (std::size_t h = 0; h < heads.size(); ++h) {
    kv::scored_head view;
    view.position = heads[h].position, view.state = heads[h].state, view.last_attention = heads[h].last_attention;
    view.window_attention = heads[h].window_attention, view.keys = heads[h].keys, view.key_dim = context.key_dim;
    view.window_queries = context.window_queries, view.seen = context.seen, view.slot = context.slot;
    view.head = static_cast<int>(h);
    out.emplace_back(heads[h].position.size());
    policy.score(view, out.back());
  }
  if constexpr (requires { P::per_layer; }) {
    if (P::per_layer)
      for (std::size_t i = 0; i < out[0].size(); ++i) {
        float sum = 0;
        for (const auto& s : out) sum += s[i];
        for (auto& s : out) s[i] = sum / static_cast<float>(out.size());
      }
  }
  return out;
}

/// Positions that stay, found by picking the best remaining row again and again.
template <class P>
std::set<int> picked(const P& policy, const kv::trim_head& head, const std::vector<float>& score,
                     const kv::trim_context& context, int budget) {
  const int n = head.rows();
  std::vector<int> rank;  // kinds of protection: 3 caller, 2 sink, 1 recent, 0 none
  for (const int p : head.position) {
    int kind = static_cast<int>(policy.protects({p, context.seen - 1 - p}));
    for (const auto& r : context.ranges) kind = p >= r.first && p < r.last ? 3 : kind;
    rank.push_back(kind);
  }
  std::set<int> out;
  std::vector<bool> taken(at(n), false);
  const auto wins = [&](int a, int b) {  // a is newer than b
    if (rank[at(a)] != rank[at(b)]) return rank[at(a)] > rank[at(b)];
    if (rank[at(a)] > 0) return true;
    if (std::isnan(score[at(b)])) return true;
    return score[at(a)] >= score[at(b)];
  };
  for (;;) {
    int best = -1;
    for (int i = 0; i < n; ++i)
      if (!taken[at(i)] && (best < 0 || wins(i, best))) best = i;
    if (best < 0 || (static_cast<int>(out.size()) >= std::max(1, budget) && rank[at(best)] < 3)) return out;
    taken[at(best)] = true;
    out.insert(head.position[at(best)]);
  }
}

inline std::set<int> kept(const kv::trim_head& head) {
  std::set<int> out;
  for (std::size_t i = 0; i < head.keep.size(); ++i)
    if (head.keep[i]) out.insert(head.position[i]);
  return out;
}

template <class P>
struct scaled : P {  // by a power of two, so that no ties arise
  float factor;
  void score(const kv::scored_head& head, std::span<float> out) const {
    P::score(head, out);
    for (float& x : out) x *= factor;
  }
};
template <class P>
struct undecided : P {
  void score(const kv::scored_head&, std::span<float> out) const { std::fill(out.begin(), out.end(), 1.0f); }
};
template <class P>
struct poisoned : P {  // every second row
  void score(const kv::scored_head& head, std::span<float> out) const {
    P::score(head, out);
    for (std::size_t i = 1; i < out.size(); i += 2) out[i] = std::numeric_limits<float>::quiet_NaN();
  }
};
template <class P>
struct starved : P {
  int budget() const { return 0; }
};

}  // namespace detail

/// Selection by itself.
template <class P>
void decides(const P& policy, expectations expect = {}) {
  using namespace detail;
  const int budget = policy.budget();
  const auto decide = [](const auto& p, const kv::trim_context& context, std::vector<kv::trim_head>& heads) {
    return kv::decide(p, kv::uniform{}, context, std::span<kv::trim_head>(heads), true);
  };
  const kv::position_range ranges[] = {{1, 3}, {9, 10}, {9, 11}};
  for (const int n : {0, 1, 2, budget - 1, budget, budget + 1, 2 * budget + 3, 5 * budget}) {
    for (const bool with_ranges : {false, true}) {
      CAPTURE(n, budget, with_ranges);
      kv::trim_context context;
      auto heads = random_heads(policy, 3, n, static_cast<unsigned>(100 + n), context);
      if (with_ranges) context.ranges = ranges;
      const auto score = scores_of(policy, heads, context);
      const bool leaves = decide(policy, context, heads);
      CHECK(leaves == (n > budget));
      for (std::size_t h = 0; h < heads.size(); ++h) {
        CHECK(kept(heads[h]) == (n > budget ? picked(policy, heads[h], score[h], context, budget)
                                            : std::set<int>(heads[h].position.begin(), heads[h].position.end())));
        if (!with_ranges) CHECK(static_cast<int>(kept(heads[h]).size()) == std::min(n, budget));
      }
    }
    kv::trim_context context;
    const auto heads = random_heads(policy, 3, n, static_cast<unsigned>(200 + n), context);
    auto plain = heads;
    decide(policy, context, plain);
    if (expect.heads_are_alike) {
      auto turned = heads;
      std::rotate(turned.begin(), turned.begin() + 1, turned.end());
      decide(policy, context, turned);
      for (std::size_t h = 0; h < 3; ++h) CHECK(turned[h].keep == plain[(h + 1) % 3].keep);
    }
    for (const float factor : {0.25f, 8.0f}) {
      scaled<P> same{policy, factor};
      auto again = heads;
      decide(same, context, again);
      for (std::size_t h = 0; h < 3; ++h) CHECK(again[h].keep == plain[h].keep);
    }
    auto tied = heads;
    decide(undecided<P>{policy}, context, tied);
    auto bad = heads;
    decide(poisoned<P>{policy}, context, bad);
    for (std::size_t h = 0; h < 3; ++h) {
      bool dropped_number = false, kept_nan = false, old_stays = false;
      for (std::size_t i = 0; i < at(n); ++i) {
        const int p = heads[h].position[i];
        if (policy.protects({p, context.seen - 1 - p}) != kv::protection::none) continue;
        old_stays = old_stays || tied[h].keep[i];
        CHECK(!(old_stays && !tied[h].keep[i]));  // among equals the newer rows stay
        kept_nan = kept_nan || (i % 2 == 1 && bad[h].keep[i]);
        dropped_number = dropped_number || (i % 2 == 0 && !bad[h].keep[i]);
      }
      CHECK(!(kept_nan && dropped_number));
    }
    auto thin = heads;
    decide(starved<P>{policy}, context, thin);
    for (const auto& head : thin) CHECK(kept(head).size() == (n > 0 ? 1u : 0u));
  }
}

namespace detail {

template <class P>
constexpr bool renumbers() {
  return requires { P::renumbers; };
}

/// One step, and what it must leave behind.
template <class Cache, class Sequence, class P>
void lawful_step(const Cache& cache, Sequence& chat, test::stream& s, const P& policy, int n, kv::step_options options,
                 bool trims) {
  const int first = chat.length(), budget = policy.budget();
  std::vector<std::vector<int>> before;
  for (int l = 0; l < s.shape.layers; ++l)
    for (int h = 0; h < s.shape.kv_heads; ++h) before.push_back(chat.positions(l, h));
  const auto outputs = test::feed(cache, chat, s, n, options);
  CAPTURE(n, first, options.more);
  for (int l = 0; l < s.shape.layers; ++l)
    for (int h = 0; h < s.shape.kv_heads; ++h) {
      auto all = before[at(l * s.shape.kv_heads + h)];
      if (!renumbers<P>() && n == 1) {  // rows travel with their positions
        auto seen = all;
        seen.push_back(first);
        const int q = h * s.shape.group();
        const auto want = test::exact(s, l, first, q, seen);
        CHECK(test::relative_error(outputs[at(l)].data() + q * s.shape.value_dim, want.data(), s.shape.value_dim) <
              1e-5);
      }
      for (int i = 0; i < n; ++i) all.push_back(first + i);
      const auto now = chat.positions(l, h);
      CHECK(now.size() == (trims ? std::min(all.size(), at(budget)) : all.size()));
      CHECK(chat.rows(l, h) == static_cast<int>(now.size()));
      CHECK(std::adjacent_find(now.begin(), now.end(), std::greater_equal<>()) == now.end());
      CHECK(std::includes(all.begin(), all.end(), now.begin(), now.end()));
      for (const int p : all)
        if (policy.protects({p, chat.length() - 1 - p}) != kv::protection::none)
          CHECK(std::binary_search(now.begin(), now.end(), p));
    }
}

/// Keys, values and queries with the two KV heads exchanged, or the query heads of each group reversed.
inline test::stream permuted(const test::stream& s, bool exchange, bool reverse) {
  test::stream out = s;
  const int dims[] = {s.shape.head_dim, s.shape.value_dim, s.shape.head_dim}, group = s.shape.group();
  for (std::size_t l = 0; l < s.k.size(); ++l)
    for (int t = 0; t < s.tokens; ++t)
      for (int part = 0; part < 3; ++part) {
        const auto& from = part == 0 ? s.k[l] : part == 1 ? s.v[l] : s.q[l];
        auto& to = part == 0 ? out.k[l] : part == 1 ? out.v[l] : out.q[l];
        const int each = part == 2 ? group : 1, heads = 2 * each;
        for (int h = 0; h < heads; ++h) {
          int of = exchange ? (h + each) % heads : h;
          if (reverse) of = of / each * each + each - 1 - of % each;
          std::copy_n(from.data() + (t * heads + of) * dims[part], dims[part],
                      to.data() + (t * heads + h) * dims[part]);
        }
      }
  return out;
}

}  // namespace detail

/// The policy in a cache; `companions` are policies that it needs.
template <class P, class... Companions>
void lives_in_a_cache(const P& policy, expectations expect, const Companions&... companions) {
  using namespace detail;
  const int budget = policy.budget(), dim = renumbers<P>() ? 8 : 7;
  const kv::trigger when = policy.when;
  for (const int group : {1, 8}) {
    const kv::model_shape shape{.layers = 2, .query_heads = 2 * group, .kv_heads = 2, .head_dim = dim};
    auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, policy, companions...);
    const auto all_positions = [&](const auto& chat) {
      std::vector<std::vector<int>> out;
      for (int i = 0; i < 4; ++i) out.push_back(chat.positions(i / 2, i % 2));
      return out;
    };
    for (const int prompt : {1, 5, budget, budget + 1, 70 + 2 * budget}) {
      CAPTURE(group, prompt);
      test::stream s(shape, prompt + 2 * budget + 20, static_cast<unsigned>(prompt));
      auto chat = cache.open();
      const bool decoding = prompt == 1;
      lawful_step(cache, chat, s, policy, prompt, {}, decoding ? when.every == 1 : when.prompt_end);
      for (int i = 0; i < budget + 3; ++i) lawful_step(cache, chat, s, policy, 1, {}, when.every == 1);
      auto fork = chat.fork();
      const auto before = all_positions(chat);
      for (int i = 0; i < 3; ++i) test::feed(cache, fork, s, 1);
      CHECK(all_positions(chat) == before);
      for (int i = 0; i < 3; ++i) test::feed(cache, chat, s, 1);
      CHECK(all_positions(chat) == all_positions(fork));
      CHECK(test::feed(cache, chat, s, 1) == test::feed(cache, fork, s, 1));
      lawful_step(cache, chat, s, policy, 4, {.decode = true}, when.every == 1);
      lawful_step(cache, fork, s, policy, 5, {}, when.prompt_end);  // a second turn
      auto again = cache.open();                                    // nothing is left of the first conversation
      test::feed(cache, again, s, prompt);
      for (int i = 0; i < budget + 3; ++i) test::feed(cache, again, s, 1);
      CHECK(all_positions(again) == before);
    }
    const int tokens = 3 * budget + 7;
    test::stream s(shape, tokens + 10, 99);
    auto chat = cache.open();
    lawful_step(cache, chat, s, policy, budget + 2, {.more = true}, when.chunks);
    lawful_step(cache, chat, s, policy, budget, {.more = true}, when.chunks);
    lawful_step(cache, chat, s, policy, tokens - 2 * budget - 2, {}, when.prompt_end);
    if (!when.chunks) {
      auto whole = cache.open();
      test::feed(cache, whole, s, tokens);
      CHECK(all_positions(whole) == all_positions(chat));
    }
    auto asked = cache.open(), deaf = cache.open();  // what a question asks does not move the answer
    test::stream other = s;
    for (auto& q : other.q)
      for (int i = (tokens - 3) * 2 * group * dim; i < tokens * 2 * group * dim; ++i) q[at(i)] *= -2.0f;
    lawful_step(cache, asked, s, policy, tokens, {.question = 3}, when.prompt_end);
    test::feed(cache, deaf, other, tokens, {.question = 3});
    CHECK(all_positions(asked) == all_positions(deaf));
    auto guarded = cache.open();
    guarded.protect(3, 6);
    test::feed(cache, guarded, s, tokens);
    for (int i = 0; i < 5; ++i) test::feed(cache, guarded, s, 1);
    for (const auto& p : all_positions(guarded))
      for (const int wanted : {3, 4, 5}) CHECK(std::binary_search(p.begin(), p.end(), wanted));
    if (expect.heads_are_alike) {
      test::stream exchanged = permuted(s, true, false), reversed = permuted(s, false, true);
      auto a = cache.open(), b = cache.open(), c = cache.open();
      for (const int n : {tokens, 1, 1}) {
        test::feed(cache, a, s, n), test::feed(cache, b, exchanged, n), test::feed(cache, c, reversed, n);
        for (int l = 0; l < 2; ++l)
          for (int h = 0; h < 2; ++h) CHECK(b.positions(l, h) == a.positions(l, 1 - h));
        CHECK(all_positions(c) == all_positions(a));
      }
    }
  }
}

/// All laws.
template <class P, class... Companions>
void evictor(const P& policy, expectations expect = {}, const Companions&... companions) {
  static_assert(kv::evictor<P>);
  decides(policy, expect);
  lives_in_a_cache(policy, expect, companions...);
}

}  // namespace laws
