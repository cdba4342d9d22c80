// SPDX-License-Identifier: Apache-2.0
// What happens at commit on a device, in the order of commit.hpp:
//
//   reserve  room and pages for what kernels may write; the only part that may run out of memory, and it comes first
//   observe  columns take in the step's signals
//   decide   where rows may leave: lists, scores, budgets, selection, folding
//   apply    rows leave, are rewritten, enter and are packed
//
// Slots pass in portions, so that lists take bounded memory. Nothing waits for the device but reserve, rarely.
#pragma once
#include <algorithm>
#include <cstddef>

#include <tersekv/backend/cuda/apply.cuh>
#include <tersekv/backend/cuda/core.cuh>
#include <tersekv/backend/cuda/fold.cuh>
#include <tersekv/backend/cuda/list_numbers.cuh>
#include <tersekv/backend/cuda/query_window.cuh>
#include <tersekv/backend/cuda/select.cuh>
#include <tersekv/backend/cuda/sequence.cuh>
#include <tersekv/commit_request.hpp>

namespace tersekv::detail {

template <class Core>
class device_commit_job {
 public:
  /// keys, values: [slots] staged rows.
  device_commit_job(Core& core, typename Core::workspace& work, device_sequence<Core>& sequence,
                    const commit_request& request, const slot_arrays& keys, const slot_arrays& values)
      : core_(core), work_(work), sequence_(sequence), request_(request), keys_(keys), values_(values) {}

  void run() {
    request_.check_observed(Core::needs_logits || Core::needs_window);
    due_ = Core::evicts && request_.trim_is_due(core_.evict.when, sequence_.in_prompt_, sequence_.decoded_);
    may_leave_ = due_ || expires();
    query_window<Core> window(core_, work_, sequence_, request_);
    window.reserve(due_);
    sequence_.reserve(request_.accepted);
    try {
      plan_portions();
      complete_mass();
      write_bytes(ranges(), sequence_.ranges_.data(), range_bytes(), stream());
      if (due_) window.attend(keys_, values_);
    } catch (...) {
      sequence_.give_back(request_.accepted);
      throw;
    }
    for (int slot = 0; slot < core_.plan.slots(); slot += portion_) run_portion(slot, window.attention());
    window.keep();
    // Promises count rows that enter, not pages that they take: one that was dropped must be there for the next token.
    if (may_leave_) recycle_pages(core_.pages.pages(), stream());
    window.finish();
    finish();
  }

 private:
  using page = typename Core::page;
  using evict_type = typename Core::evict_type;
  using merge_type = typename Core::merge_type;
  static constexpr bool folds = merge_type::folds;
  static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
  cuda_stream stream() const { return core_.backend.stream; }
  int most_rows() const { return sequence_.rows_most_; }  // accepted ones included
  /// Whether some row is out of sight of all that read it.
  bool expires() const {
    const int seen = sequence_.length_ + request_.accepted;
    for (int s = 0; s < core_.plan.slots(); ++s)
      if (const int retained = core_.plan.retained(s); retained > 0 && seen >= retained) return true;
    return false;
  }

  /// Arrays of one portion.
  struct portion {
    row_lists lists{};
    float *keys = nullptr, *values = nullptr;  // [heads, most_rows, dim] of the lists
    fold_arguments<merge_type> fold{};
    std::byte* apply = nullptr;
  };
  /// Cuts what one portion of `slots` slots needs; lists only where rows may leave.
  portion carve(carver& from, int slots) const {
    const commit_shape shape = shape_of(0, slots);
    const auto heads = at(shape.heads()), rows = heads * at(shape.most_rows);
    portion p;
    carve_staged(from, p.lists, shape, Core::columns);
    if (may_leave_) {
      carve_lists<evict_type>(from, p.lists, shape);
      if (Core::needs_keys || folds) from.take(p.keys, rows * at(shape.key_dim));
      if (Core::needs_keys || folds) from.take(p.values, rows * at(shape.value_dim));
      p.fold.shape = shape;
      if constexpr (folds) carve_fold(from, p.fold);
    }
    from.take(p.apply, apply_workspace(core_.format, shape.heads()));
    return p;
  }
  void plan_portions() {
    portion_ = core_.plan.slots();
    const auto bytes = [&] {
      carver count(nullptr);
      carve(count, portion_);
      return count.bytes();
    };
    while (portion_ > 1 && bytes() > core_.backend.scratch_bytes) portion_ = (portion_ + 1) / 2;
    scratch_ = bytes();
    work_.scratch.at_least(scratch_ + range_bytes());
  }
  commit_shape shape_of(int first, int slots) const {
    commit_shape s{};
    s.sequences = 1, s.slots = slots, s.kv_heads = core_.shape.kv_heads;
    s.first_slot = first, s.all_slots = core_.plan.slots();
    s.key_dim = core_.shape.head_dim, s.value_dim = core_.shape.value_dim, s.layers = core_.shape.layers;
    s.slot_of_layer = core_.slot_of_layer(), s.retained = core_.retained();
    s.most_rows = most_rows(), s.most_accepted = request_.accepted;
    return s;
  }

  // ------------------------------------------------------------------------------------------------- what kernels read
  std::size_t range_bytes() const { return may_leave_ ? sequence_.ranges_.size() * sizeof(position_range) : 0; }
  position_range* ranges() const { return reinterpret_cast<position_range*>(work_.scratch.data() + scratch_); }
  /// Of the slots from `first` on.
  device_commit commit_of(int first, const float* window) const {
    const std::int64_t heads = std::int64_t{first} * core_.shape.kv_heads;
    device_commit c{};
    c.heads = sequence_.heads_.data() + heads;
    c.keys = {keys_[first], keys_.bytes};
    c.mass = Core::needs_logits ? work_.mass.data() : nullptr;
    c.window = window ? window + heads * work_.signal_stride : nullptr;
    c.ranges = ranges(), c.range_count = static_cast<int>(sequence_.ranges_.size());
    c.length = sequence_.length_;
    c.signal_stride = work_.signal_stride;
    c.tokens = request_.tokens, c.accepted = request_.accepted, c.observed = request_.observed;
    c.signal_rows = signal_rows(request_.tokens);
    c.window_queries = work_.window_queries;
    c.due = due_;
    return c;
  }
  device_apply apply_of(int first, bool last) const {
    return {sequence_.heads_.data() + first * core_.shape.kv_heads,
            {keys_[first], keys_.bytes},
            {values_[first], values_.bytes},
            sequence_.length_,
            request_.accepted,
            last ? sequence_.length_there_.data() : nullptr};
  }
  /// Layers that did not attend have no mass.
  void complete_mass() const {
    if constexpr (Core::needs_logits) {
      const std::size_t one =
          at(core_.shape.kv_heads * signal_rows(request_.tokens)) * static_cast<std::size_t>(work_.signal_stride);
      for (std::size_t l = 0; l < work_.attended.size(); ++l)
        if (work_.attended[l] == 0) fill_on_device(work_.mass.data() + l * one, 0, one * sizeof(float), stream());
    }
  }

  // ----------------------------------------------------------------------------------------------------------- kernels
  void run_portion(int first, const float* window) {
    const int slots = std::min(portion_, core_.plan.slots() - first);
    const commit_shape shape = shape_of(first, slots);
    const device_commit commit = commit_of(first, window);
    carver from(work_.scratch.data());
    portion p = carve(from, portion_);
    p.lists.keys = p.keys;
    observe_rows(core_.evict, core_.merge, commit, shape, p.lists, stream());
    apply_batch batch{};
    batch.sequences = apply_of(first, first + slots == core_.plan.slots());
    batch.count = 1, batch.slots = slots, batch.kv_heads = shape.kv_heads;
    batch.window = core_.codec.window, batch.sinks = core_.codec.sinks;
    batch.most_rows = shape.most_rows, batch.most_accepted = shape.most_accepted;
    batch.staged_state = Core::columns > 0 ? p.lists.staged_state : nullptr;
    if (may_leave_) decide(shape, commit, first, p, batch);
    apply_rows<page, Core::columns, Core::biased>(core_.format, core_.pages.pages(), batch, p.apply, stream());
  }

  void decide(const commit_shape& shape, const device_commit& commit, int first, portion& p, apply_batch& batch) {
    const list_arguments<evict_type> list{{commit, shape, p.lists}, core_.evict, Core::columns};
    list_rows(list, stream());
    if constexpr (Core::needs_keys || folds) list_numbers(core_.format, batch, p.keys, p.values, stream());
    select_rows(list, core_.budget, stream());
    batch.keep = p.lists.keep;
    if constexpr (folds) {
      fold_arguments<merge_type>& fold = p.fold;
      static_cast<head_lists&>(fold) = list;
      fold.merge = core_.merge;
      fold.states = sequence_.merge_state_.data() + first * shape.kv_heads;
      fold.first_column = evict_type::columns, fold.columns = Core::columns;
      fold.rewrites_packed = page::span == 1 && page::key_format::opens && page::value_format::opens;
      fold.keys = p.keys, fold.values = p.values;
      fold_rows(fold, stream());
      batch.changed = fold.changed, batch.keys = p.keys, batch.values = p.values, batch.bias = fold.bias;
    }
  }

  void finish() {
    const bool prompt = request_.is_prompt(sequence_.in_prompt_);
    if (!prompt) sequence_.decoded_ += request_.accepted;
    sequence_.length_ += request_.accepted;
    sequence_.in_prompt_ = request_.more;
    if (due_ && prompt) sequence_.fit();
  }

  Core& core_;
  typename Core::workspace& work_;
  device_sequence<Core>& sequence_;
  const commit_request request_;
  const slot_arrays keys_, values_;  // staged rows
  bool due_ = false, may_leave_ = false;
  int portion_ = 1;
  std::size_t scratch_ = 0;
};

}  // namespace tersekv::detail
