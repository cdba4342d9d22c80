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
#include <cstring>
#include <vector>

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
                    const commit_request& request, const std::vector<device_array>& keys,
                    const std::vector<device_array>& values)
      : core_(core), work_(work), sequence_(sequence), request_(request), keys_(keys), values_(values) {}

  void run() {
    request_.check_observed(Core::needs_logits || Core::needs_window);
    due_ = Core::evicts && request_.trim_is_due(core_.evict.when, sequence_.in_prompt_, sequence_.decoded_);
    query_window<Core> window(core_, work_, sequence_, request_);
    window.reserve(due_);
    sequence_.reserve(request_.accepted);
    try {
      plan_portions();
      write_plan(window.attention());
      if (due_) window.attend(keys_, values_);
    } catch (...) {
      sequence_.give_back(request_.accepted);
      throw;
    }
    for (int slot = 0; slot < core_.plan.slots(); slot += portion_) run_portion(slot);
    window.keep();
    recycle_pages(core_.pages.pages(), stream());
    add_to(sequence_.length_there_.data(), request_.accepted, stream());
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
  bool expires() const {
    for (int s = 0; s < core_.plan.slots(); ++s)
      if (core_.plan.retained(s) > 0) return true;
    return false;
  }

  /// Arrays of one portion.
  struct portion {
    row_lists lists{};
    float *keys = nullptr, *values = nullptr;  // [heads, most_rows, dim] of the lists
    fold_arguments<merge_type> fold{};
    std::byte* apply = nullptr;
  };
  /// Cuts what one portion of `slots` slots needs.
  portion carve(carver& from, int slots) const {
    const commit_shape shape = shape_of(0, slots);
    const auto heads = at(shape.heads()), rows = heads * at(shape.most_rows);
    portion p;
    p.lists = carve_lists<evict_type>(from, shape, Core::columns);
    if (Core::needs_keys || folds) from.take(p.keys, rows * at(shape.key_dim));
    if (Core::needs_keys || folds) from.take(p.values, rows * at(shape.value_dim));
    p.fold.shape = shape;
    if constexpr (folds) carve_fold(from, p.fold);
    from.take(p.apply, apply_workspace(core_.format, shape.heads()));
    return p;
  }
  void plan_portions() {
    constexpr std::size_t enough = std::size_t{128} << 20;
    portion_ = core_.plan.slots();
    const auto bytes = [&] {
      carver count(nullptr);
      carve(count, portion_);
      return count.bytes();
    };
    while (portion_ > 1 && bytes() > enough) portion_ = (portion_ + 1) / 2;
    scratch_ = bytes();
    work_.scratch.at_least(scratch_ + plan_bytes());
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
  /// In device memory, behind the scratch: the portions' structs, staged arrays, masses, ranges.
  struct plan_places {
    std::size_t commits, applies, states, keys, values, mass, ranges, end;
  };
  plan_places places() const {
    const std::size_t slots = at(core_.plan.slots()), layers = at(core_.shape.layers);
    plan_places p{};
    p.commits = 0;
    p.applies = p.commits + slots * sizeof(device_commit);
    p.states = p.applies + slots * sizeof(device_apply);
    p.keys = p.states + slots * sizeof(void*);
    p.values = p.keys + slots * sizeof(device_array);
    p.mass = p.values + slots * sizeof(device_array);
    p.ranges = p.mass + layers * sizeof(float*);
    p.end = p.ranges + sequence_.ranges_.size() * sizeof(position_range);
    return p;
  }
  std::size_t plan_bytes() const { return places().end; }
  std::byte* plan_at(std::size_t offset) const { return work_.scratch.data() + scratch_ + offset; }

  void write_plan(const float* window) {
    const plan_places p = places();
    std::vector<std::byte> all(p.end);
    const auto put = [&](std::size_t offset, const auto* from, std::size_t count) {
      if (count > 0) std::memcpy(all.data() + offset, from, count * sizeof(*from));
    };
    put(p.keys, keys_.data(), keys_.size());
    put(p.values, values_.data(), values_.size());
    if constexpr (Core::needs_logits) {
      std::vector<float*> masses(at(core_.shape.layers), nullptr);
      const std::int64_t one =
          static_cast<std::int64_t>(core_.shape.kv_heads) * signal_rows(request_.tokens) * work_.signal_stride;
      for (int l = 0; l < core_.shape.layers; ++l)
        if (work_.attended[at(l)]) masses[at(l)] = work_.mass.data() + l * one;
      put(p.mass, masses.data(), masses.size());
    }
    put(p.ranges, sequence_.ranges_.data(), sequence_.ranges_.size());
    const int per_slot = core_.shape.kv_heads;
    for (int s = 0; s < core_.plan.slots(); s += portion_) {
      device_commit c{};
      c.heads = sequence_.heads_.data() + s * per_slot;
      c.keys = reinterpret_cast<const device_array*>(plan_at(p.keys)) + s;
      c.mass = Core::needs_logits ? reinterpret_cast<const float* const*>(plan_at(p.mass)) : nullptr;
      c.window = window ? window + at(s * per_slot) * static_cast<std::size_t>(work_.signal_stride) : nullptr;
      c.ranges = reinterpret_cast<const position_range*>(plan_at(p.ranges));
      c.range_count = static_cast<int>(sequence_.ranges_.size());
      c.length = sequence_.length_there_.data();
      c.signal_stride = work_.signal_stride;
      c.tokens = request_.tokens, c.accepted = request_.accepted, c.observed = request_.observed;
      c.signal_rows = signal_rows(request_.tokens);
      c.window_queries = work_.window_queries;
      c.due = due_;
      put(p.commits + at(s) * sizeof c, &c, 1);
      const device_apply a{sequence_.heads_.data() + s * per_slot, c.keys,
                           reinterpret_cast<const device_array*>(plan_at(p.values)) + s, c.length, request_.accepted};
      put(p.applies + at(s) * sizeof a, &a, 1);
      const auto* states = sequence_.merge_state_.data() + s * per_slot;
      put(p.states + at(s) * sizeof(void*), &states, 1);
    }
    write_bytes(plan_at(0), all.data(), all.size(), stream());
  }

  // ----------------------------------------------------------------------------------------------------------- kernels
  void run_portion(int first) {
    const int slots = std::min(portion_, core_.plan.slots() - first);
    const commit_shape shape = shape_of(first, slots);
    const plan_places where = places();
    const auto* commit = reinterpret_cast<const device_commit*>(plan_at(where.commits)) + first;
    const auto* apply = reinterpret_cast<const device_apply*>(plan_at(where.applies)) + first;
    carver from(work_.scratch.data());
    portion p = carve(from, portion_);
    p.lists.keys = p.keys;
    observe_rows(core_.evict, core_.merge, commit, shape, p.lists, stream());
    const bool may_leave = due_ || expires();
    apply_batch batch{};
    batch.sequences = apply, batch.count = 1, batch.slots = slots, batch.kv_heads = shape.kv_heads;
    batch.window = core_.codec.window, batch.sinks = core_.codec.sinks;
    batch.most_rows = shape.most_rows, batch.most_accepted = shape.most_accepted;
    batch.staged_state = Core::columns > 0 ? p.lists.staged_state : nullptr;
    if (may_leave) decide(shape, commit, first, p, batch);
    apply_rows<page, Core::columns, Core::biased>(core_.format, core_.pages.pages(), batch, p.apply, stream());
  }

  void decide(const commit_shape& shape, const device_commit* commit, int first, portion& p, apply_batch& batch) {
    const list_arguments<evict_type> list{{commit, shape, p.lists}, core_.evict, Core::columns};
    list_rows(list, stream());
    if constexpr (Core::needs_keys || folds) list_numbers(core_.format, batch, p.keys, p.values, stream());
    select_rows(list, core_.budget, stream());
    batch.keep = p.lists.keep;
    if constexpr (folds) {
      fold_arguments<merge_type>& fold = p.fold;
      static_cast<head_lists&>(fold) = list;
      fold.merge = core_.merge;
      fold.states = reinterpret_cast<typename merge_type::head_state* const*>(plan_at(places().states)) + first;
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
  const std::vector<device_array>&keys_, &values_;
  bool due_ = false;
  int portion_ = 1;
  std::size_t scratch_ = 0;
};

}  // namespace tersekv::detail
