// SPDX-License-Identifier: Apache-2.0
// Which rows stay: scores, protection, budgets and selection, without any storage. The cache runs it inside commit;
// engines that own their memory run it through row_plan (plan.hpp).
//
// House rules: larger = keep; protected rows first (caller, then sinks, then the newest), then the best; ties go to the
// newer row; NaN ranks lowest; heads with rows <= budget are untouched; one row survives. Rows that the caller protects
// always stay, even above the budget.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

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
  std::vector<int> order;               // scratch
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

namespace detail {

/// keep[i] = 1 for all caller-protected rows, then for the best others until `budget` rows are kept.
inline void select_rows(trim_head& head, int budget) {
  const int n = head.rows();
  head.order.clear();
  int kept = 0;
  for (int i = 0; i < n; ++i) {
    const auto u = static_cast<std::size_t>(i);
    if (!head.keep[u]) continue;  // expired
    if (head.guard[u] == protection::caller)
      ++kept;
    else
      head.order.push_back(i), head.keep[u] = 0;
  }
  const int room = std::max(budget - kept, kept == 0 ? 1 : 0);
  const auto better = [&](int a, int b) {
    const auto x = static_cast<std::size_t>(a), y = static_cast<std::size_t>(b);
    if (head.guard[x] != head.guard[y]) return head.guard[x] > head.guard[y];
    if (head.guard[x] == protection::none) {
      const float s = head.scores[x], t = head.scores[y];
      const bool bad_s = std::isnan(s), bad_t = std::isnan(t);
      if (bad_s != bad_t) return bad_t;
      if (!bad_s && s != t) return s > t;
    }
    return a > b;
  };
  const auto take = std::min(static_cast<std::size_t>(room), head.order.size());
  if (take + 1 == head.order.size())  // a token came, a row goes
    std::iter_swap(std::max_element(head.order.begin(), head.order.end(), better), head.order.end() - 1);
  else if (take < head.order.size())
    std::nth_element(head.order.begin(), head.order.begin() + static_cast<std::ptrdiff_t>(take), head.order.end(),
                     better);
  for (std::size_t i = 0; i < take; ++i) head.keep[static_cast<std::size_t>(head.order[i])] = 1;
}

}  // namespace detail

/// Fills keep[] of all heads of one slot. Returns whether any row leaves. `over_budget` = false: only rows that no
/// reader can see any more leave.
template <class Evict, class Budget>
bool decide(const Evict& evict, const Budget& budget, const trim_context& context, std::span<trim_head> heads,
            bool over_budget) {
  bool leaves = false;
  const std::size_t count = heads.size();
  std::vector<int> held(count), guarded(count, 0), allowed(count);
  for (std::size_t h = 0; h < count; ++h) {
    trim_head& head = heads[h];
    const auto n = head.position.size();
    head.keep.assign(n, 1);
    head.guard.resize(n);
    head.scores.assign(n, 0.0f);
    held[h] = static_cast<int>(n);
    for (std::size_t i = 0; i < n; ++i) {
      const int p = head.position[i];
      protection guard = evict.protects(row{p, context.seen - 1 - p});
      for (const position_range r : context.ranges)
        if (p >= r.first && p < r.last) guard = protection::caller;
      head.guard[i] = guard;
      guarded[h] += guard != protection::none;
      // the next query stands at position `seen` and sees positions above seen - retained
      if (context.retained > 0 && p <= context.seen - context.retained) head.keep[i] = 0, leaves = true;
    }
  }
  const int base = evict.budget();
  const int slack = trigger(evict.when).slack;
  const bool any_over = std::any_of(held.begin(), held.end(), [&](int n) { return n > base && n - base > slack; });
  if constexpr (requires { Evict::keeps_all; }) return leaves;
  const auto score_all = [&] {
    for (std::size_t h = 0; h < count; ++h) {
      trim_head& head = heads[h];
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
  std::vector<std::span<const float>> scores;
  std::vector<std::span<const protection>> guards;
  if constexpr (Budget::needs_scores) {
    if (!any_over) return leaves;
    score_all();
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
    if (held[h] <= b) continue;
    detail::select_rows(heads[h], b);
    leaves = leaves || std::count(heads[h].keep.begin(), heads[h].keep.end(), 1) < held[h];
  }
  return leaves;
}

}  // namespace tersekv
