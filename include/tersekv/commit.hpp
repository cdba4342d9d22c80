// SPDX-License-Identifier: Apache-2.0
// What happens at commit, in three parts:
//
//   plan     per slot: observe, and where a trim is due score, select, fold - on copies
//   reserve  room and pages for everything that will be written; the only part that may run out of memory
//   apply    rows leave, are rewritten, enter and are packed; cannot fail
//
// so that a commit that throws has changed nothing, and that of a batch no sequence: all are planned, then all reserve.
#pragma once
#include <algorithm>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tersekv/commit_request.hpp>
#include <tersekv/newest_queries.hpp>
#include <tersekv/signals.hpp>

namespace tersekv::detail {

template <class Core, class Sequence>
class commit_job {
 public:
  commit_job(Core& core, typename Core::workspace& work, Sequence& sequence, const commit_request& request)
      : core_(core), work_(work), sequence_(sequence), request_(request), heads_(core.shape.kv_heads),
        window_(core, work, sequence, request) {}

  /// Whether the commit of a step of this layer's slot may let rows go.
  static bool may_trim(const Core& core, const Sequence& sequence, const commit_request& request, int slot) {
    return request.trim_is_due(core.evict.when, sequence.in_prompt_, sequence.decoded_) &&
           over_budget(core, sequence, slot, request.accepted);
  }

  /// Jobs of sequences of one cache.
  template <class Jobs>
  static void run(Core& core, Jobs&& jobs) {
    for (commit_job& job : jobs) job.prepare();
    const std::lock_guard lock(core.memory.commits);
    for (commit_job& job : jobs) job.reserve();
    for (commit_job& job : jobs) job.apply();
    core.memory.give_back_reserve();
  }

 private:
  void prepare() {
    request_.check_observed(Core::needs_logits || Core::needs_window);
    due_ = request_.trim_is_due(core_.evict.when, sequence_.in_prompt_, sequence_.decoded_);
    for (int s = 0; s < core_.plan.slots(); ++s) plan_slot(s);
    window_.keep();
  }
  void apply() noexcept {
    for (int s = 0; s < core_.plan.slots(); ++s)
      for (int h = 0; h < heads_; ++h) apply(s, h);
    finish();
  }

  using rows_type = typename Core::rows;
  static constexpr int columns = Core::columns;
  static constexpr int evict_columns = Core::evict_type::columns;
  static constexpr int merge_columns = Core::merge_type::columns;
  static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
  head_plan& plan(int s, int h) { return work_.plans[at(s * heads_ + h)]; }
  rows_type& rows(int s, int h) { return sequence_.at(s, h); }
  int seen() const { return sequence_.length_ + request_.accepted; }

  // ------------------------------------------------------------------------------------------------------------- when
  bool expires(int slot) {
    const int retained = core_.plan.retained(slot);
    if (retained == 0) return false;
    for (int h = 0; h < heads_; ++h)
      for (const int p : rows(slot, h).position())
        if (p >= 0) {
          if (p <= seen() - retained) return true;
          break;
        }
    return request_.accepted >= retained;
  }

  /// Cheap test before anything is scored. A budget that spreads rows may give a head less than the eviction policy
  /// asks for; decide() knows.
  static bool over_budget(const Core& core, const Sequence& sequence, int s, int accepted) {
    if constexpr (requires { Core::evict_type::keeps_all; }) return false;
    using budget = typename Core::budget_type;
    constexpr bool spreads = !budget::needs_scores && !std::is_same_v<budget, uniform>;
    const int least = spreads ? 1 : core.evict.budget();
    for (int h = 0; h < core.shape.kv_heads; ++h)
      if (sequence.at(s, h).live() + accepted > std::max(1, least)) return true;
    return false;
  }

  // ------------------------------------------------------------------------------------------------------------- plan
  void plan_slot(int s) {
    for (int h = 0; h < heads_; ++h) {
      head_plan& p = plan(s, h);
      p.leave.clear(), p.enter.clear(), p.changed.clear(), p.bias.clear();
      p.decoded = head_plan::nothing;
      observe(s, h);
      for (int j = 0; j < request_.accepted; ++j) p.enter.push_back(j);
    }
    const bool expired = expires(s);
    if (!due_ && !expired) return count_rows(s);
    if (!expired && !over_budget(core_, sequence_, s, request_.accepted)) return count_rows(s);
    for (int h = 0; h < heads_; ++h) describe(s, h);
    trim_context context;
    context.slot = s, context.slots = core_.plan.slots(), context.seen = seen();
    context.retained = core_.plan.retained(s), context.key_dim = core_.shape.head_dim;
    context.ranges = sequence_.ranges_;
    if constexpr (Core::needs_window)
      if (due_) {
        context.window_queries = window_.queries();
        core_.backend.for_each(
            heads_, [&](int h) { window_.attention(s, h, plan(s, h).source, work_.trims[at(h)].window_attention); });
      }
    if (decide(core_.evict, core_.budget, context, std::span<trim_head>(work_.trims), due_, work_.trim))
      for (int h = 0; h < heads_; ++h) let_go(s, h);
    count_rows(s);
  }

  /// state = the stored columns and those of the staged rows, after this step's observation.
  void observe(int s, int h) {
    if constexpr (columns > 0) {
      head_plan& p = plan(s, h);
      const rows_type& head = rows(s, h);
      const int slots = head.slots();
      p.state.assign(at((slots + request_.accepted) * columns), 0.0f);
      std::copy_n(head.state(0).data(), slots * columns, p.state.data());
      const float* keys =
          work_.keys[at(s)].data() + static_cast<std::ptrdiff_t>(h) * request_.tokens * core_.shape.head_dim;
      const std::vector<float>& mass = sum_mass(s, h, slots);
      for (int i = 0; i < slots + request_.accepted; ++i) {
        const bool staged = i >= slots;
        if (!staged && head.position()[at(i)] < 0) continue;
        const observation o{mass.empty() ? 0.0f : mass[at(i)],
                            std::max(0, staged ? request_.observed - (i - slots) : request_.observed)};
        const std::span<const float> key =
            staged ? std::span<const float>(keys + static_cast<std::ptrdiff_t>(i - slots) * core_.shape.head_dim,
                                            at(core_.shape.head_dim))
                   : std::span<const float>();
        update(core_.evict, p.state.data() + i * columns, evict_columns, staged, key, o);
        update(core_.merge, p.state.data() + i * columns + evict_columns, merge_columns, staged, key, o);
      }
    }
  }
  template <class Policy>
  static void update(const Policy& policy, float* state, int count, bool staged, std::span<const float> key,
                     const observation& o) {
    const std::span<float> mine(state, at(count));
    if (staged) insert_row(policy, mine, key);
    observe_row(policy, mine, o);
  }

  /// Attention mass per row index (staged rows behind), over the layers that read the slot; empty without the signal.
  const std::vector<float>& sum_mass(int s, int h, int slots) {
    std::vector<float>& mass = work_.row_signal;
    mass.clear();
    if constexpr (Core::needs_mass) {
      mass.assign(at(slots + request_.accepted), 0.0f);
      const int all = request_.tokens <= separate_queries ? request_.observed : 1;
      add_signal(s, h, slots, 0, all, mass);
    }
    return mass;
  }
  /// to[row index] += signal rows first .. last, over the layers that read the slot.
  void add_signal(int s, int h, int slots, int first, int last, std::vector<float>& to) {
    for (int layer = 0; layer < core_.shape.layers; ++layer) {
      const layer_mass& m = work_.mass[at(layer)];
      if (core_.plan.slot(layer) != s || m.empty()) continue;
      for (int r = first; r < last; ++r) {
        const auto from = m.row(h, r);
        for (int i = 0; i < slots + request_.accepted; ++i) to[at(i)] += from[at(i)];
      }
    }
  }

  /// The trim_head of a head: what its policies may know about the list of its rows.
  void describe(int s, int h) {
    head_plan& p = plan(s, h);
    rows_type& head = rows(s, h);
    trim_head& t = work_.trims[at(h)];
    t.last_attention.clear(), t.window_attention.clear();
    // Dead rows are written as well, and overwritten by the next: their share is small, and hard to foresee.
    const std::size_t n = at(head.live() + request_.accepted);
    p.source.resize(n + 1), t.position.resize(n + 1), t.state.resize((n + 1) * at(evict_columns));
    std::size_t row = 0;
    const auto add = [&](int i, int position) {
      p.source[row] = i, t.position[row] = position;
      std::copy_n(p.state.data() + i * columns, evict_columns, t.state.data() + row * at(evict_columns));
      row += position >= 0;
    };
    const std::span<const int> positions = head.position();
    for (int i = 0; i < head.slots(); ++i) add(i, positions[at(i)]);
    for (int j = 0; j < request_.accepted; ++j) add(head.slots() + j, sequence_.length_ + j);
    p.source.resize(n), t.position.resize(n), t.state.resize(n * at(evict_columns));
    if (!due_) return;
    if constexpr (Core::needs_last) {
      std::vector<float>& last = work_.row_signal;
      last.assign(at(head.slots() + request_.accepted), 0.0f);
      const int row = request_.tokens <= separate_queries ? request_.observed - 1 : 1;
      if (request_.observed > 0) add_signal(s, h, head.slots(), row, row + 1, last);
      for (const int i : p.source) t.last_attention.push_back(last[at(i)]);
    }
    if constexpr (Core::needs_keys) {
      if constexpr (Core::merge_type::folds) {
        numbers(s, h, head_plan::keys_and_values);
        t.keys.assign(p.keys.begin(), p.keys.end());
      } else {
        numbers(s, h, head_plan::only_keys);
        std::swap(t.keys, p.keys);
      }
    }
  }

  /// keys, perhaps values [rows, dim] of the list.
  void numbers(int s, int h, typename head_plan::decoded_rows wanted) {
    head_plan& p = plan(s, h);
    if (p.decoded >= wanted) return;
    p.decoded = wanted;
    const bool values = wanted == head_plan::keys_and_values;
    const int dk = core_.shape.head_dim, dv = values ? core_.shape.value_dim : 0;
    p.keys.resize(p.source.size() * at(dk)), p.values.resize(p.source.size() * at(dv));
    auto scratch = work_.blocks.borrow();
    head_source<Core> source(core_, work_, rows(s, h), s, h, request_.tokens, sequence_.length_, *scratch);
    std::size_t row = 0;
    source.for_each_tile({}, request_.accepted, values, [&](const row_tile& tile) {
      for (int r = 0; r < tile.rows; ++r) {
        if (tile.position[r] < 0) continue;
        std::copy_n(tile.keys + r * dk, dk, p.keys.data() + row * at(dk));
        std::copy_n(tile.values + r * dv, dv, p.values.data() + row * at(dv));
        ++row;
      }
    });
    work_.blocks.give_back(std::move(scratch));
  }

  /// Takes over the answer of decide(); folds the leavers.
  void let_go(int s, int h) {
    head_plan& p = plan(s, h);
    const trim_head& t = work_.trims[at(h)];
    const int slots = rows(s, h).slots();
    p.enter.clear();
    for (int i = 0; i < t.rows(); ++i) {
      const int from = p.source[at(i)];
      if (!t.keep[at(i)] && from < slots) p.leave.push_back(from);
      if (t.keep[at(i)] && from >= slots) p.enter.push_back(from - slots);
    }
    if constexpr (Core::merge_type::folds) {
      const int retained = core_.plan.retained(s);
      leave_.clear(), stay_.clear();
      for (int i = 0; i < t.rows(); ++i)
        if (t.keep[at(i)])
          stay_.push_back(i);
        else if (retained == 0 || t.position[at(i)] > seen() - retained)  // others have nothing to give any more
          leave_.push_back(i);
      if (!leave_.empty() && !stay_.empty()) fold(s, h, t);
    }
  }

  void fold(int s, int h, const trim_head& t) {
    head_plan& p = plan(s, h);
    rows_type& head = rows(s, h);
    numbers(s, h, head_plan::keys_and_values);
    const std::size_t n = p.source.size();
    p.changed.assign(n, 0);
    p.bias.assign(Core::biased ? n : 0, 0.0f);
    std::vector<unsigned char> writable(n, 1);
    std::vector<float> state;
    for (std::size_t i = 0; i < n; ++i) {
      const int from = p.source[i];
      if (from < head.slots()) {
        if (Core::biased) p.bias[i] = head.bias(from);
        if (head.is_packed(from))
          writable[i] = Core::page::span == 1 && Core::page::key_format::opens && Core::page::value_format::opens;
      }
      const float* mine = p.state.data() + from * columns + evict_columns;
      state.insert(state.end(), mine, mine + merge_columns);
    }
    fold_head f;
    f.keys = p.keys, f.values = p.values, f.position = t.position, f.leave = leave_, f.stay = stay_, f.guard = t.guard;
    f.writable = writable, f.changed = p.changed, f.state = state, f.bias = p.bias;
    f.key_dim = core_.shape.head_dim, f.value_dim = core_.shape.value_dim, f.seen = seen();
    next_state_.resize(sequence_.heads_.size());
    auto& remembered = next_state_[at(s * heads_ + h)];
    remembered = sequence_.merge_state_[at(s * heads_ + h)];
    folded_.push_back(s * heads_ + h);
    core_.merge.fold(f, remembered);
    for (std::size_t i = 0; i < n; ++i)
      std::copy_n(state.data() + i * at(merge_columns), merge_columns,
                  p.state.data() + p.source[i] * columns + evict_columns);
  }

  /// How many of the entering rows become sinks, are packed, stay in the window.
  void count_rows(int s) {
    for (int h = 0; h < heads_; ++h) {
      head_plan& p = plan(s, h);
      const rows_type& head = rows(s, h);
      p.sinks = 0;
      for (const int j : p.enter) p.sinks += sequence_.length_ + j < core_.codec.sinks;
      const int packed_end = head.sinks() + head.packed();
      const auto left =
          static_cast<int>(std::count_if(p.leave.begin(), p.leave.end(), [&](int i) { return i >= packed_end; }));
      const int window = head.window() - left;
      const int open = window + static_cast<int>(p.enter.size()) - p.sinks - core_.codec.window;
      p.pack = open > 0 ? open / Core::page::span * Core::page::span : 0;
      p.pack_from_window = std::min(window, p.pack);
    }
  }

  // ---------------------------------------------------------------------------------------------------------- reserve
  void reserve() {
    work_.encode_keys.resize(at(Core::page::rows * core_.shape.head_dim));
    work_.encode_values.resize(at(Core::page::rows * core_.shape.value_dim));
    try {
      for (int s = 0; s < core_.plan.slots(); ++s)
        for (int h = 0; h < heads_; ++h) {
          head_plan& p = plan(s, h);
          rows_type& head = rows(s, h);
          const auto enter = static_cast<int>(p.enter.size());
          const int from_staged = p.pack - p.pack_from_window;
          const int window = head.window() + enter - p.sinks - from_staged;  // leavers are not yet taken off
          int pages = head.pages_to_pack(p.pack);
          head.reserve(core_.format, enter, head.sinks() + p.sinks, std::max(head.window(), window), pages);
          int known = -1;
          for (std::size_t i = 0; i < p.changed.size(); ++i) {
            const int from = p.source[i];
            if (!p.changed[i] || from >= head.slots() || !head.shared(from) || head.page_of(from) == known) continue;
            known = head.page_of(from);
            ++pages;
          }
          core_.memory.reserve(at(pages));
        }
    } catch (...) {
      core_.memory.give_back_reserve();
      throw;
    }
  }

  // ------------------------------------------------------------------------------------------------------------ apply
  void apply(int s, int h) noexcept {
    head_plan& p = plan(s, h);
    rows_type& head = rows(s, h);
    const auto& f = core_.format;
    const int dk = f.key_dim, dv = f.value_dim, slots = head.slots();
    const int committed = static_cast<int>(p.source.size()) - request_.accepted;  // meaningful after describe()
    const bool folded = !p.changed.empty();
    if constexpr (columns > 0) std::copy_n(p.state.data(), slots * columns, head.state(0).data());
    if (folded)
      for (int i = 0; i < committed; ++i)
        if (p.changed[at(i)]) {
          head.rewrite(core_.memory, f, p.source[at(i)], p.keys.data() + i * dk, p.values.data() + i * dv);
          if (Core::biased) head.set_bias(p.source[at(i)], p.bias[at(i)]);
        }
    head.remove(f, p.leave);
    const float* staged_keys = work_.keys[at(s)].data() + static_cast<std::ptrdiff_t>(h) * request_.tokens * dk;
    const float* staged_values = work_.values[at(s)].data() + static_cast<std::ptrdiff_t>(h) * request_.tokens * dv;
    const auto key = [&](int j) { return folded ? p.keys.data() + (committed + j) * dk : staged_keys + j * dk; };
    const auto value = [&](int j) { return folded ? p.values.data() + (committed + j) * dv : staged_values + j * dv; };
    for (std::size_t e = 0; e < p.enter.size(); ++e) {
      const int j = p.enter[e];
      const float* state = columns > 0 ? p.state.data() + (slots + j) * columns : nullptr;
      if (static_cast<int>(e) < p.sinks)
        head.push_sink(f, key(j), value(j), sequence_.length_ + j, state);
      else
        head.push_columns(sequence_.length_ + j, state);
      if (Core::biased && folded)
        head.set_bias(static_cast<int>(e) < p.sinks ? head.sinks() - 1 : head.slots() - 1, p.bias[at(committed + j)]);
    }
    int next = p.sinks;  // staged row to pack or to put into the window next
    float *encode_keys = work_.encode_keys.data(), *encode_values = work_.encode_values.data();
    for (int done = 0; done < p.pack;) {
      const int room = Core::page::rows - head.packed() % Core::page::rows, count = std::min(room, p.pack - done);
      const int old = std::clamp(p.pack_from_window - done, 0, count);
      head.take_window(f, done, old, encode_keys, encode_values);
      for (int r = old; r < count; ++r, ++next) {
        std::copy_n(key(p.enter[at(next)]), dk, encode_keys + r * dk);
        std::copy_n(value(p.enter[at(next)]), dv, encode_values + r * dv);
        if constexpr (waits) {
          round_to_half(encode_keys + r * dk, dk);
          round_to_half(encode_values + r * dv, dv);
        }
      }
      head.pack(core_.memory, f, encode_keys, encode_values, count);
      done += count;
    }
    head.forget_window(f, p.pack_from_window);
    for (; next < static_cast<int>(p.enter.size()); ++next)
      head.push_window(f, key(p.enter[at(next)]), value(p.enter[at(next)]));
    const auto left = static_cast<int>(p.leave.size()) + request_.accepted - static_cast<int>(p.enter.size());
    if (left > 0) {
      head.compact(core_.memory, f, left);
      head.fit(left);
    }
  }

  /// Rows may wait in the 16-bit window before they are packed; those that do not are rounded alike, so that the packed
  /// bytes do not depend on how tokens came in steps.
  static constexpr bool waits = Core::codec_type::window > 0 || Core::page::span > 1;
  static void round_to_half(float* x, int n) noexcept {
    half h[64];
    for (int c = 0; c < n; c += 64) {
      const int some = std::min(64, n - c);
      narrow(x + c, some, h);
      widen(h, some, x + c);
    }
  }

  void finish() noexcept {
    window_.hand_over();
    for (const int i : folded_) sequence_.merge_state_[at(i)] = next_state_[at(i)];
    if (!request_.is_prompt(sequence_.in_prompt_)) sequence_.decoded_ += request_.accepted;
    sequence_.length_ += request_.accepted;
    sequence_.in_prompt_ = request_.more;
  }

  Core& core_;
  typename Core::workspace& work_;
  Sequence& sequence_;
  const commit_request request_;
  const int heads_;
  bool due_ = false;
  newest_queries<Core, Sequence> window_;
  std::vector<int> leave_, stay_, folded_;
  std::vector<typename Core::merge_type::head_state> next_state_;
};

}  // namespace tersekv::detail
