// SPDX-License-Identifier: Apache-2.0
// What happens at commit on a device, to one step or to a batch of them, in the order of commit.hpp:
//
//   reserve  room and pages for what kernels may write; the only part that may run out of memory, and it comes first
//   observe  columns take in the step's signals
//   decide   where rows may leave: lists, scores, budgets, selection, folding
//   apply    rows leave, are rewritten, enter and are packed
//
// Sequences whose rows may leave and those that only grow are two groups, each with its own launches. Groups pass in
// portions, so that lists take bounded memory. Nothing waits for the device but reserve, rarely.
#pragma once
#include <algorithm>
#include <cstddef>
#include <deque>
#include <vector>

#include <tersekv/backend/cuda/apply.cuh>
#include <tersekv/backend/cuda/commit_part.cuh>
#include <tersekv/backend/cuda/fold.cuh>
#include <tersekv/backend/cuda/list_numbers.cuh>
#include <tersekv/backend/cuda/select.cuh>

namespace tersekv::detail {

template <class Core>
class device_commit_job {
 public:
  explicit device_commit_job(Core& core) : core_(core) {}

  /// Another step: the arguments of commit_part.
  template <class... Arguments>
  void add(Arguments&&... arguments) {
    parts_.emplace_back(core_, arguments...);
  }

  /// Throws before any sequence has changed.
  void run() {
    for (part& p : parts_) groups_[p.may_leave() ? 1 : 0].parts.push_back(&p);
    groups_[1].may_leave = true;
    for (part& p : parts_) p.reserve_window();
    reserve();
    try {
      for (group& g : groups_) plan(g);
      core_.commits.at_least(tables_at() + place_tables(nullptr));
      for (part& p : parts_) p.complete_signals();
      place_tables(core_.commits.data() + tables_at());
      for (group& g : groups_) write_tables(g);
    } catch (...) {
      for (part& p : parts_) p.sequence().give_back(p.accepted());
      throw;
    }
    for (const group& g : groups_)
      for (int i = 0; i < g.count(); i += g.sequences)
        for (int slot = 0; slot < core_.plan.slots(); slot += g.slots) run_portion(g, i, slot);
    // Promises count rows that enter, not pages that they take: one that was dropped must be there for the next token.
    if (groups_[1].count() > 0) recycle_pages(core_.pages.pages(), stream());
    for (part& p : parts_) p.finish();
  }

 private:
  using page = typename Core::page;
  using evict_type = typename Core::evict_type;
  using merge_type = typename Core::merge_type;
  using merge_state = typename merge_type::head_state;
  using part = commit_part<Core>;
  static constexpr bool folds = merge_type::folds;
  static constexpr int most_heads = 65535;  // of a launch: what grids may have in their second dimension
  static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
  cuda_stream stream() const { return core_.backend.stream; }

  /// Sequences that pass through the same kernels.
  struct group {
    std::vector<part*> parts;
    bool may_leave = false;
    int most_rows = 0, most_accepted = 0;
    int sequences = 1, slots = 1;  // of a portion: slots are fewer than all only where it has one sequence
    std::size_t scratch = 0;       // bytes of a portion
    // In device memory, [parts]; null where a portion has one sequence, whose description travels with the arguments.
    device_commit* commits = nullptr;
    device_apply* applies = nullptr;
    merge_state** states = nullptr;
    position_range* ranges = nullptr;  // of all parts, one after the other

    int count() const { return static_cast<int>(parts.size()); }
    /// Protected positions of the parts before `end`.
    std::size_t ranges_before(int end) const {
      std::size_t sum = 0;
      for (int i = 0; may_leave && i < end; ++i) sum += parts[at(i)]->ranges().size();
      return sum;
    }
  };

  /// Rows and pages of all sequences, or of none.
  void reserve() {
    std::size_t done = 0;
    try {
      for (; done < parts_.size(); ++done) parts_[done].sequence().reserve(parts_[done].accepted());
      int missing = 0, anew = 0;
      for (const part& p : parts_) {
        missing += p.sequence().pages_missing();
        anew += p.sequence().most_pages(p.accepted());
      }
      const bool begins = missing > 0 && core_.pages.ensure(missing, anew);
      for (const part& p : parts_) {
        device_sequence<Core>& sequence = p.sequence();
        if (begins)
          sequence.begin_epoch(p.accepted(), sequence.most_pages(p.accepted()));
        else
          sequence.promised_ += sequence.pages_missing();
      }
    } catch (...) {
      for (std::size_t i = 0; i < done; ++i) parts_[i].sequence().give_back(parts_[i].accepted());
      throw;
    }
  }

  // --------------------------------------------------------------------------------------------------------- portions
  /// Arrays of one portion.
  struct portion {
    row_lists lists{};
    float *keys = nullptr, *values = nullptr;  // [heads, most_rows, dim] of the lists
    fold_arguments<merge_type> fold{};
    std::byte* apply = nullptr;
  };
  /// Cuts what a portion needs; lists only where rows may leave.
  portion carve(carver& from, const group& g) const {
    const commit_shape shape = shape_of(g, g.sequences, 0, g.slots);
    const auto heads = at(shape.heads()), rows = heads * at(shape.most_rows);
    portion p;
    carve_staged(from, p.lists, shape, Core::columns);
    if (g.may_leave) {
      carve_lists<evict_type>(from, p.lists, shape);
      if (Core::needs_keys || folds) from.take(p.keys, rows * at(shape.key_dim));
      if (Core::needs_keys || folds) from.take(p.values, rows * at(shape.value_dim));
      p.fold.shape = shape;
      if constexpr (folds) carve_fold(from, p.fold);
    }
    from.take(p.apply, apply_workspace(core_.format, shape.heads()));
    return p;
  }
  void plan(group& g) const {
    if (g.parts.empty()) return;
    for (const part* p : g.parts) {
      g.most_rows = std::max(g.most_rows, p->most_rows());
      g.most_accepted = std::max(g.most_accepted, p->accepted());
    }
    g.sequences = g.count(), g.slots = core_.plan.slots();
    const auto fits = [&] {
      carver count(nullptr);
      carve(count, g);
      g.scratch = count.bytes();
      return g.scratch <= core_.backend.scratch_bytes && g.sequences * g.slots * core_.shape.kv_heads <= most_heads;
    };
    while (!fits() && g.sequences * g.slots > 1) {
      int& more = g.sequences > 1 ? g.sequences : g.slots;
      more = (more + 1) / 2;
    }
  }
  commit_shape shape_of(const group& g, int sequences, int first, int slots) const {
    commit_shape s{};
    s.sequences = sequences, s.slots = slots, s.kv_heads = core_.shape.kv_heads;
    s.first_slot = first, s.all_slots = core_.plan.slots();
    s.key_dim = core_.shape.head_dim, s.value_dim = core_.shape.value_dim, s.layers = core_.shape.layers;
    s.slot_of_layer = core_.slot_of_layer(), s.retained = core_.retained();
    s.most_rows = g.most_rows, s.most_accepted = g.most_accepted;
    return s;
  }

  // ------------------------------------------------------------------------------------------------- what kernels read
  static bool observes(const group& g) { return Core::columns > 0 || g.may_leave; }
  /// Behind the lists of a portion; 256 as carver aligns.
  std::size_t tables_at() const { return std::max(groups_[0].scratch, groups_[1].scratch); }
  /// Returns the bytes of all tables.
  std::size_t place_tables(std::byte* memory) {
    carver from(memory);
    for (group& g : groups_) {
      const std::size_t n = g.sequences > 1 ? g.parts.size() : 0;
      from.take(g.applies, n);
      from.take(g.commits, observes(g) ? n : 0);
      from.take(g.states, folds && g.may_leave ? n : 0);
      from.take(g.ranges, g.ranges_before(g.count()));
    }
    return from.bytes();
  }
  void write_tables(const group& g) const {
    const auto write = [&]<class T>(T* to, int count, auto&& one) {
      std::vector<T> all;
      for (int i = 0; i < count; ++i) all.push_back(one(i));
      write_bytes(to, all.data(), all.size() * sizeof(T), stream());
    };
    std::vector<position_range> ranges;
    for (const part* p : g.parts)
      if (g.may_leave) ranges.insert(ranges.end(), p->ranges().begin(), p->ranges().end());
    write_bytes(g.ranges, ranges.data(), ranges.size() * sizeof(position_range), stream());
    if (g.sequences == 1) return;
    write(g.applies, g.count(), [&](int i) { return g.parts[at(i)]->describe_apply(0, true); });
    if (observes(g)) write(g.commits, g.count(), [&](int i) { return commit_of(g, i, 0); });
    if constexpr (folds)
      if (g.may_leave) write(g.states, g.count(), [&](int i) { return g.parts[at(i)]->merge_state(0); });
  }
  device_commit commit_of(const group& g, int i, int first) const {
    return g.parts[at(i)]->describe(first, g.ranges + g.ranges_before(i));
  }

  // ----------------------------------------------------------------------------------------------------------- kernels
  /// Sequences from the i-th on, slots from `first` on.
  void run_portion(const group& g, int i, int first) {
    const int sequences = std::min(g.sequences, g.count() - i), slots = std::min(g.slots, core_.plan.slots() - first);
    const commit_shape shape = shape_of(g, sequences, first, slots);
    const bool one = g.sequences == 1;
    const auto commits = one ? batch_of<device_commit>(commit_of(g, i, first)) : batch_of<device_commit>(g.commits + i);
    carver from(core_.commits.data());
    portion p = carve(from, g);
    p.lists.keys = p.keys;
    observe_rows(core_.evict, core_.merge, commits, shape, p.lists, stream());
    apply_batch batch{};
    batch.sequences = one ? batch_of(g.parts[at(i)]->describe_apply(first, first + slots == core_.plan.slots()))
                          : batch_of<device_apply>(g.applies + i);
    batch.count = sequences, batch.slots = slots, batch.kv_heads = shape.kv_heads;
    batch.window = core_.codec.window, batch.sinks = core_.codec.sinks;
    batch.most_rows = shape.most_rows, batch.most_accepted = shape.most_accepted;
    batch.staged_state = Core::columns > 0 ? p.lists.staged_state : nullptr;
    if (g.may_leave) {
      if constexpr (folds)
        p.fold.states =
            one ? batch_of<merge_state*>(g.parts[at(i)]->merge_state(first)) : batch_of<merge_state*>(g.states + i);
      decide(shape, commits, p, batch);
    }
    apply_rows<page, Core::columns, Core::biased>(core_.format, core_.pages.pages(), batch, p.apply, stream());
  }

  void decide(const commit_shape& shape, const batch_of<device_commit>& commits, portion& p, apply_batch& batch) {
    const list_arguments<evict_type> list{{commits, shape, p.lists}, core_.evict, Core::columns};
    list_rows(list, stream());
    if constexpr (Core::needs_keys || folds) list_numbers(core_.format, batch, p.keys, p.values, stream());
    select_rows(list, core_.budget, stream());
    batch.keep = p.lists.keep;
    if constexpr (folds) {
      fold_arguments<merge_type>& fold = p.fold;
      static_cast<head_lists&>(fold) = list;
      fold.merge = core_.merge;
      fold.first_column = evict_type::columns, fold.columns = Core::columns;
      fold.rewrites_packed = page::span == 1 && page::key_format::opens && page::value_format::opens;
      fold.keys = p.keys, fold.values = p.values;
      fold_rows(fold, stream());
      batch.changed = fold.changed, batch.keys = p.keys, batch.values = p.values, batch.bias = fold.bias;
    }
  }

  Core& core_;
  std::deque<part> parts_;
  group groups_[2];  // rows only enter; rows may leave
};

}  // namespace tersekv::detail
