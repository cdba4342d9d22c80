// SPDX-License-Identifier: Apache-2.0
// Which rows stay: scores, protection, budgets and selection, without any storage. The cache runs it inside commit;
// engines that own their memory run it through row_plan (row_plan.hpp).
//
// House rules: larger = keep; protected rows first (caller, then sinks, then the newest), then the best; ties go to the
// newer row; NaN ranks lowest; heads with rows <= budget are untouched; one row survives. Rows that the caller protects
// always stay, even above the budget.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <tersekv/detail/row_worth.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

/// One head at the time of a trim: what is known about its rows, and the answer. n rows in order of position.
struct trim_head {
  std::vector<int> position;            // [n]
  std::vector<float> state;             // [n, columns]
  std::vector<float> last_attention;    // [n] where the policy needs it
  std::vector<float> window_attention;  // [n] likewise
  std::vector<float> keys;              // [n, key_dim] likewise
  std::vector<float> scores;            // [n]
  std::vector<protection> guard;        // [n]
  std::vector<unsigned char> keep;      // [n] the answer
  std::vector<std::uint64_t> order;     // scratch
  int rows() const { return static_cast<int>(position.size()); }
};

/// A range of positions that the caller protects: first <= position < last.
struct position_range {
  int first, last;
};

/// What is common to the heads of a slot.
struct trim_context {
  int slot = 0, slots = 1;
  int seen = 0;      // tokens so far
  int retained = 0;  // positions that the slot's readers can see; 0 = all
  int key_dim = 0;
  int window_queries = 0;  // queries behind window_attention
  std::span<const position_range> ranges = {};
};

/// What decide() works with besides the heads, kept between calls.
struct trim_scratch {
  std::vector<int> held, guarded, allowed;          // [heads]
  std::vector<std::span<const float>> scores;       // [heads] for budgets that need them
  std::vector<std::span<const protection>> guards;  // [heads] likewise
};

namespace detail {

/// Of the rows that may leave, the best stay until `budget` rows are kept in all, at least one. Returns how many leave.
inline int select_rows(trim_head& head, int budget) {
  const std::size_t n = head.position.size();
  const auto worth = [&](std::size_t i) {
    return row_worth(head.guard[i], head.keep[i] == 0, head.scores[i], static_cast<int>(i));
  };
  std::uint64_t least = ~std::uint64_t{0};  // less one, so that 0 is the greatest
  int open = 0, kept = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t w = worth(i);
    least = std::min(least, w - 1);
    open += w != 0;
    kept += head.keep[i];
  }
  kept -= open;
  const int room = std::max(budget - kept, kept == 0 ? 1 : 0), leave = open - room;
  if (leave <= 0) return 0;
  if (leave == 1) {  // a token came, a row goes
    head.keep[static_cast<std::size_t>(row_of_worth(least + 1))] = 0;
    return 1;
  }
  head.order.clear();
  for (std::size_t i = 0; i < n; ++i)
    if (const std::uint64_t w = worth(i); w != 0) head.order.push_back(w);
  const auto last = head.order.begin() + (leave - 1);  // the best of those that leave
  std::nth_element(head.order.begin(), last, head.order.end());
  for (auto w = head.order.begin(); w <= last; ++w) head.keep[static_cast<std::size_t>(row_of_worth(*w))] = 0;
  return leave;
}

/// keep, guard and how many rows are guarded, before any is scored. Returns whether a row has expired.
template <class Evict>
bool guard_rows(const Evict& evict, const trim_context& context, trim_head& head, int& guarded) {
  const std::size_t n = head.position.size();
  head.keep.assign(n, 1);
  head.guard.resize(n);
  for (std::size_t i = 0; i < n; ++i)
    head.guard[i] = evict.protects(row{head.position[i], context.seen - 1 - head.position[i]});
  for (const position_range r : context.ranges)
    for (std::size_t i = 0; i < n; ++i)
      if (head.position[i] >= r.first && head.position[i] < r.last) head.guard[i] = protection::caller;
  guarded = static_cast<int>(n) - static_cast<int>(std::count(head.guard.begin(), head.guard.end(), protection::none));
  if (context.retained == 0) return false;
  // the next query stands at position `seen` and sees positions above seen - retained
  bool expired = false;
  for (std::size_t i = 0; i < n; ++i)
    if (head.position[i] <= context.seen - context.retained) head.keep[i] = 0, expired = true;
  return expired;
}

}  // namespace detail

/// Fills keep[] of all heads of one slot. Returns whether any row leaves. `over_budget` = false: only rows that no
/// reader can see any more leave.
template <class Evict, class Budget>
bool decide(const Evict& evict, const Budget& budget, const trim_context& context, std::span<trim_head> heads,
            bool over_budget, trim_scratch& scratch) {
  bool leaves = false;
  const std::size_t count = heads.size();
  auto& [held, guarded, allowed, scores, guards] = scratch;
  held.resize(count), guarded.resize(count), allowed.resize(count);
  for (std::size_t h = 0; h < count; ++h) {
    held[h] = heads[h].rows();
    leaves = detail::guard_rows(evict, context, heads[h], guarded[h]) || leaves;
  }
  const int base = evict.budget();
  const int slack = trigger(evict.when).slack;
  const bool any_over = std::any_of(held.begin(), held.end(), [&](int n) { return n > base && n - base > slack; });
  if constexpr (requires { Evict::keeps_all; }) return leaves;
  const auto score_all = [&] {
    for (std::size_t h = 0; h < count; ++h) {
      trim_head& head = heads[h];
      head.scores.assign(head.position.size(), 0.0f);
      scored_head view;
      view.position = head.position, view.state = head.state, view.last_attention = head.last_attention;
      view.window_attention = head.window_attention, view.keys = head.keys, view.key_dim = context.key_dim;
      view.window_queries = context.window_queries, view.seen = context.seen;
      view.slot = context.slot, view.head = static_cast<int>(h);
      evict.score(view, head.scores);
    }
    if constexpr (requires { Evict::per_layer; }) {
      if (Evict::per_layer)
        for (std::size_t i = 0; i < heads[0].scores.size(); ++i) {
          float sum = 0;
          for (const trim_head& head : heads) sum += head.scores[i];
          for (trim_head& head : heads) head.scores[i] = sum / static_cast<float>(count);
        }
    }
  };
  if (!over_budget) return leaves;
  budget_request request;
  request.rows = base, request.slot = context.slot, request.slots = context.slots, request.seen = context.seen;
  request.held = held, request.guarded = guarded;
  if constexpr (Budget::needs_scores) {
    if (!any_over) return leaves;
    score_all();
    scores.clear(), guards.clear();
    for (const trim_head& head : heads) scores.push_back(head.scores), guards.push_back(head.guard);
    request.scores = scores, request.guards = guards;
    budget.allocate(request, allowed);
  } else {
    budget.allocate(request, allowed);
    bool any = false;
    for (std::size_t h = 0; h < count; ++h) any = any || held[h] > std::max(1, allowed[h]) + slack;
    if (!any) return leaves;
    score_all();
  }
  for (std::size_t h = 0; h < count; ++h) {
    const int b = std::max(1, allowed[h]);
    if (held[h] > b) leaves = detail::select_rows(heads[h], b) > 0 || leaves;
  }
  return leaves;
}
/// With working memory of its own.
template <class Evict, class Budget>
bool decide(const Evict& evict, const Budget& budget, const trim_context& context, std::span<trim_head> heads,
            bool over_budget) {
  trim_scratch scratch;
  return decide(evict, budget, context, heads, over_budget, scratch);
}

}  // namespace tersekv
