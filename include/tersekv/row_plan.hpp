// SPDX-License-Identifier: Apache-2.0
// Eviction for engines that keep their own memory: the same policies and the same decisions as in a cache, no storage.
// The engine tells what it appended and what attention it saw; it gets back which rows stay, how they move together and
// which pages become free.
//
//   tersekv::row_plan plan(kv_heads, tersekv::h2o{.heavy = 256, .recent = 256});    // one per slot (layer)
//   plan.append(n);                                                                 // n rows behind every head's rows
//   plan.observe(head, mass, queries);                                              // mass [rows] of that head
//   for (const auto& head : plan.trim(tersekv::row_plan_step::decode)) move the rows, free the pages
#pragma once
#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tersekv/budget/uniform.hpp>
#include <tersekv/error.hpp>
#include <tersekv/trim.hpp>

namespace tersekv {

/// Row `from` of a head becomes row `to`; to < from, and moves in order never overwrite a row that still has to move.
struct row_move {
  int from, to;
  friend bool operator==(const row_move&, const row_move&) = default;
};

/// What became of one head.
struct head_trim {
  std::vector<int> kept;        // rows that stay, by their index before, ascending
  std::vector<row_move> moves;  // rows that change place when the kept ones move together
  int rows = 0;                 // rows now
  int first_free_page = 0;      // pages from here on, as many as `freed_pages`, hold nothing any more
  int freed_pages = 0;
};

/// Signals that policies may need at the time of a trim; what the policy does not ask for may stay empty.
struct head_signals {
  std::span<const float> last_attention;    // [rows] of the newest query, mean over the group
  std::span<const float> window_attention;  // [rows] summed over the newest queries, mean over the group
  std::span<const float> keys;              // [rows, key_dim]
};

enum class row_plan_step : unsigned char { prompt_chunk, prompt_end, decode };

template <class Evict, class Budget = uniform>
class row_plan {
 public:
  /// page_rows: rows of a page of the engine. Throws shape_error.
  explicit row_plan(int kv_heads, Evict evict = {}, Budget budget = {}, int page_rows = 32, int slot = 0, int slots = 1)
      : evict_(std::move(evict)), budget_(std::move(budget)), page_rows_(page_rows), slot_(slot), slots_(slots),
        heads_(static_cast<std::size_t>(std::max(0, kv_heads))) {
    if (kv_heads < 1 || page_rows < 1 || slots < 1 || slot < 0 || slot >= slots || evict_.budget() < 1)
      throw shape_error("tersekv::row_plan: kv_heads " + std::to_string(kv_heads) + ", page_rows " +
                        std::to_string(page_rows) + ", slot " + std::to_string(slot) + " of " + std::to_string(slots) +
                        ", budget " + std::to_string(evict_.budget()) + "; counts are >= 1 and 0 <= slot < slots");
    if constexpr (requires { evict_.check(); }) evict_.check();
  }

  int heads() const { return static_cast<int>(heads_.size()); }
  int rows(int head) const { return heads_.at(static_cast<std::size_t>(head)).rows(); }
  /// Absolute positions of a head's rows.
  std::span<const int> positions(int head) const { return heads_.at(static_cast<std::size_t>(head)).position; }
  int seen() const { return seen_; }

  /// n rows behind the rows of every head. keys [kv_heads][n, key_dim]: only for policies that look at keys on arrival.
  void append(int n, std::span<const std::span<const float>> keys = {}) {
    if (n < 0) throw shape_error("tersekv::row_plan::append: " + std::to_string(n) + " rows");
    constexpr bool wants_keys = detail::inserts_rows<Evict>;
    if (wants_keys && n > 0 && keys.size() != heads_.size())
      throw shape_error("tersekv::row_plan::append: this policy looks at keys; give one span per head, " +
                        std::to_string(heads_.size()) + " in all");
    for (std::size_t h = 0; h < heads_.size(); ++h)
      for (int i = 0; i < n; ++i) {
        heads_[h].position.push_back(seen_ + i);
        heads_[h].state.resize(heads_[h].state.size() + Evict::columns, 0.0f);
        if constexpr (wants_keys) {
          const std::size_t dim = keys[h].size() / static_cast<std::size_t>(n);
          detail::insert_row(evict_, state_of(h, heads_[h].position.size() - 1),
                             keys[h].subspan(static_cast<std::size_t>(i) * dim, dim));
        }
      }
    seen_ += n;
    appended_ += n;
  }

  /// mass [rows(head)]: attention that each row received from `queries` new queries, mean over the group.
  void observe(int head, std::span<const float> mass, int queries) {
    trim_head& h = heads_.at(static_cast<std::size_t>(head));
    if (mass.size() != h.position.size())
      throw shape_error("tersekv::row_plan::observe: " + std::to_string(mass.size()) + " numbers for a head of " +
                        std::to_string(h.rows()) + " rows");
    for (std::size_t i = 0; i < mass.size(); ++i)
      detail::observe_row(evict_, state_of(static_cast<std::size_t>(head), i),
                          {mass[i], std::min(queries, seen_ - h.position[i])});
  }

  /// Decides, where the policy's trigger says so. One answer per head, also when nothing leaves.
  std::vector<head_trim> trim(row_plan_step step, std::span<const head_signals> signals = {}, int key_dim = 0,
                              int window_queries = 0) {
    if (!signals.empty() && signals.size() != heads_.size())
      throw shape_error("tersekv::row_plan::trim: signals of " + std::to_string(signals.size()) + " heads, there are " +
                        std::to_string(heads_.size()));
    for (std::size_t h = 0; h < signals.size(); ++h) {
      const auto take = [&](std::span<const float> from, std::vector<float>& to, std::size_t per_row) {
        if (!from.empty() && from.size() != heads_[h].position.size() * per_row)
          throw shape_error("tersekv::row_plan::trim: a signal of head " + std::to_string(h) + " has " +
                            std::to_string(from.size()) + " numbers for " + std::to_string(heads_[h].rows()) + " rows");
        to.assign(from.begin(), from.end());
      };
      take(signals[h].last_attention, heads_[h].last_attention, 1);
      take(signals[h].window_attention, heads_[h].window_attention, 1);
      take(signals[h].keys, heads_[h].keys, static_cast<std::size_t>(key_dim));
    }
    trim_context context;
    context.slot = slot_, context.slots = slots_, context.seen = seen_, context.key_dim = key_dim;
    context.window_queries = window_queries;
    const bool due = is_due(step);
    decide(evict_, budget_, context, std::span<trim_head>(heads_), due, scratch_);
    std::vector<head_trim> out;
    for (trim_head& head : heads_) out.push_back(apply(head));
    return out;
  }

 private:
  std::span<float> state_of(std::size_t h, std::size_t row) {
    return {heads_[h].state.data() + row * Evict::columns, static_cast<std::size_t>(Evict::columns)};
  }
  bool is_due(row_plan_step step) {
    const trigger when = evict_.when;
    const int before = decoded_;
    if (step == row_plan_step::decode) decoded_ += appended_;
    appended_ = 0;
    if (step == row_plan_step::prompt_chunk) return when.chunks;
    if (step == row_plan_step::prompt_end) return when.prompt_end;
    return when.every > 0 && decoded_ / when.every > before / when.every;
  }
  head_trim apply(trim_head& head) {
    head_trim out;
    const int before = head.rows();
    int to = 0;
    for (int i = 0; i < before; ++i) {
      const auto u = static_cast<std::size_t>(i), t = static_cast<std::size_t>(to);
      if (!head.keep[u]) continue;
      out.kept.push_back(i);
      if (to != i) out.moves.push_back({i, to});
      head.position[t] = head.position[u];
      for (int c = 0; c < Evict::columns; ++c)
        head.state[t * Evict::columns + static_cast<std::size_t>(c)] =
            head.state[u * Evict::columns + static_cast<std::size_t>(c)];
      ++to;
    }
    head.position.resize(static_cast<std::size_t>(to));
    head.state.resize(static_cast<std::size_t>(to) * Evict::columns);
    out.rows = to;
    out.first_free_page = (to + page_rows_ - 1) / page_rows_;
    out.freed_pages = (before + page_rows_ - 1) / page_rows_ - out.first_free_page;
    return out;
  }

  Evict evict_;
  Budget budget_;
  int page_rows_, slot_, slots_;
  std::vector<trim_head> heads_;
  trim_scratch scratch_;
  int seen_ = 0, decoded_ = 0, appended_ = 0;
};

}  // namespace tersekv
