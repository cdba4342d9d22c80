// SPDX-License-Identifier: Apache-2.0
// What a cache and its sequences share: shape, layer plan, policies, page format, pool, and working memory to lend.
#pragma once
#include <algorithm>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <tersekv/compose.hpp>
#include <tersekv/detail/layer_mass.hpp>
#include <tersekv/head_rows.hpp>
#include <tersekv/shape.hpp>
#include <tersekv/trim.hpp>
#include <tersekv/view.hpp>

namespace tersekv {

template <class Core>
class basic_sequence;

namespace detail {

template <class P>
constexpr bool carries_mass() {
  if constexpr (requires { P::carries_mass; }) return P::carries_mass;
  return false;
}
template <class P>
constexpr bool renumbers_positions() {
  if constexpr (requires { P::renumbers; }) return P::renumbers;
  return false;
}

/// What one head's part of a commit will do, found out before anything is changed. A commit sees the head's rows as one
/// list: the live committed rows, then the accepted staged ones.
struct head_plan {
  enum decoded_rows { nothing, only_keys, keys_and_values };
  std::vector<float> state;            // [slots + accepted, columns] after this step's observation
  std::vector<int> source;             // [rows] row index of the committed rows in the list
  std::vector<int> leave;              // row indices of committed rows that leave, ascending
  std::vector<int> enter;              // staged rows that stay, ascending
  decoded_rows decoded = nothing;      // which of these were filled in this commit:
  std::vector<float> keys, values;     // [rows, dim] of the list, where a policy needs numbers
  std::vector<float> bias;             // [rows] after folding
  std::vector<unsigned char> changed;  // [rows] rewritten by the merger; empty when nothing was folded
  int sinks = 0, pack = 0, pack_from_window = 0;
};

/// Working memory that is lent and given back, so that steady work allocates nothing.
template <class T>
class lender {
 public:
  std::unique_ptr<T> borrow() {
    return borrow([] { return std::make_unique<T>(); });
  }
  /// `make()` gives a new one where none is idle.
  template <class Make>
  std::unique_ptr<T> borrow(Make&& make) {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return make();
    std::unique_ptr<T> one = std::move(idle_.back());
    idle_.pop_back();
    return one;
  }
  /// The one that was given back first: a batch of steps meets the same memory again, step by step.
  template <class Make>
  std::unique_ptr<T> borrow_in_turn(Make&& make) {
    {
      const std::lock_guard lock(mutex_);
      std::rotate(idle_.begin(), idle_.begin() + (idle_.empty() ? 0 : 1), idle_.end());
    }
    return borrow(make);
  }
  void give_back(std::unique_ptr<T> one) noexcept {
    const std::lock_guard lock(mutex_);
    try {
      idle_.push_back(std::move(one));
    } catch (...) {  // then it is freed
    }
  }
  std::size_t idle_bytes() const {
    const std::lock_guard lock(mutex_);
    std::size_t sum = 0;
    for (const auto& one : idle_) sum += one->bytes();
    return sum;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<T>> idle_;
};

/// Memory of attention over tiles: one block of queries at a time.
template <class Backend>
struct block_scratch {
  tile_scratch tile;
  typename Backend::scratch attend;
  std::vector<float> queries, out, log_sum_exp, logits, turns, turned;
  std::vector<int> query_position, rank;
  typename Backend::page_choice choice;

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto* v : {&queries, &out, &log_sum_exp, &logits, &attend.logits, &tile.keys, &tile.values})
      sum += v->capacity() * sizeof(float);
    return sum;
  }
};

/// Memory of one open step.
template <class Backend>
struct workspace {
  std::vector<std::vector<float>> keys, values;          // [slots][kv_heads, n, dim] staged
  std::vector<unsigned char> staged;                     // [slots]
  std::vector<float> change;                             // [slots] relative change between the last two appends
  std::vector<layer_mass> mass;                          // [layers]
  std::vector<layer_mass> window_mass;                   // [layers] of the newest queries
  std::vector<float> lane_mass;                          // [kv_heads, mass_lanes, stride]
  std::vector<std::vector<float>> queries;               // [layers][kept queries, query_heads, key_dim]
  std::vector<float> row, encode_keys, encode_values;    // one row; a page of rows
  std::vector<float> row_signal;                         // [rows of a head]
  lender<block_scratch<Backend>> blocks;                 // as many as threads are at work
  std::vector<typename Backend::decode_scratch> decode;  // [kv_heads]
  std::vector<trim_head> trims;                          // [kv_heads]
  trim_scratch trim;
  std::vector<head_plan> plans;  // [slots, kv_heads]

  std::size_t bytes() const {
    std::size_t sum = 0;
    const auto add = [&](const auto& v) { sum += v.capacity() * sizeof(v[0]); };
    for (const auto* group : {&keys, &values, &queries})
      for (const auto& v : *group) add(v);
    for (const auto* group : {&mass, &window_mass})
      for (const layer_mass& m : *group) sum += m.bytes();
    for (const auto* v : {&lane_mass, &encode_keys, &encode_values, &row_signal}) add(*v);
    sum += blocks.idle_bytes();
    for (const auto& d : decode) sum += d.bytes();
    for (const head_plan& p : plans)
      for (const auto* v : {&p.keys, &p.values, &p.state}) add(*v);
    return sum;
  }
};

/// Workspaces, and the open sequences.
template <class Workspace, class Sequence>
class registry : public lender<Workspace> {
 public:
  void enter(const Sequence* s) {
    const std::lock_guard lock(mutex_);
    sequences_.push_back(s);
  }
  void replace(const Sequence* from, const Sequence* to) noexcept {
    const std::lock_guard lock(mutex_);
    std::replace(sequences_.begin(), sequences_.end(), from, to);
  }
  void leave(const Sequence* s) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase(sequences_, s);
  }
  template <class Visit>
  void for_each_sequence(Visit&& visit) {
    const std::lock_guard lock(mutex_);
    for (const auto* s : sequences_) visit(*s);
  }

 private:
  std::mutex mutex_;
  std::vector<const Sequence*> sequences_;
};

}  // namespace detail

/// The policies of a cache, what follows from them, and the shape and plan they were made for; wherever it computes.
template <class Backend, class Share, class Evict, class Budget, class Merge, class Codec, class Read, class Rotary>
struct recipe {
  using backend_type = Backend;
  using evict_type = Evict;
  using budget_type = Budget;
  using merge_type = Merge;
  using codec_type = Codec;
  using read_type = Read;
  using all = list<Backend, Share, Evict, Budget, Merge, Codec, Read, Rotary>;
  using page = page_format<Codec, Read>;
  static constexpr bool biased = detail::carries_mass<Merge>();
  static constexpr int columns = Evict::columns + Merge::columns;
  static constexpr bool needs_mass = detail::needed<fact::attention_mass, all>;
  static constexpr bool needs_last = detail::needed<fact::last_attention, all>;
  static constexpr bool needs_window = detail::needed<fact::query_window, all>;
  static constexpr bool needs_keys = detail::needed<fact::readable_keys, all>;
  static constexpr bool needs_logits = needs_mass || needs_last;
  static constexpr bool renumbers = detail::renumbers_positions<Evict>();

  recipe(const model_shape& wanted, Backend b, Share s, Evict e, Budget u, Merge m, Codec c, Read r, Rotary t)
      : shape(wanted.checked()), backend(std::move(b)), share(std::move(s)), evict(std::move(e)), budget(std::move(u)),
        merge(std::move(m)), codec(std::move(c)), read(std::move(r)), rotary(std::move(t)),
        plan(share.plan(shape.layers)), format(codec, read, shape.head_dim, shape.value_dim) {
    const auto check = [](const auto& policy) {
      if constexpr (requires { policy.check(); }) policy.check();
    };
    check(evict), check(budget), check(read);
    if (evict.budget() < 1)
      throw shape_error("tersekv::cache: the eviction policy's budget is " + std::to_string(evict.budget()) +
                        " rows per head, must be >= 1");
    if (renumbers && shape.head_dim % 2 != 0)
      throw shape_error("tersekv::cache: rotation needs an even head_dim, not " + std::to_string(shape.head_dim));
  }

  /// Queries of the newest tokens that a policy wants to be kept.
  int query_window() const {
    if constexpr (needs_window) return evict.queries();
    return 0;
  }

  const model_shape shape;
  const Backend backend;
  const Share share;
  const Evict evict;
  const Budget budget;
  const Merge merge;
  const Codec codec;
  const Read read;
  const Rotary rotary;
  const layer_plan plan;
  const page format;
};

/// A recipe and its memory, for the CPU.
template <class... Policies>
struct cache_core : recipe<Policies...>,
                    detail::registry<detail::workspace<typename recipe<Policies...>::backend_type>,
                                     basic_sequence<cache_core<Policies...>>> {
  using base = recipe<Policies...>;
  using rows = head_rows<typename base::page, base::columns, base::biased>;
  using workspace = detail::workspace<typename base::backend_type>;

  cache_core(const model_shape& wanted, Policies... policies)
      : base(wanted, std::move(policies)...),
        memory(this->backend.memory, this->format.bytes(), this->backend.max_bytes) {}

  pool memory;
};

}  // namespace tersekv
