// SPDX-License-Identifier: Apache-2.0
// One step of those that a commit takes together: whether rows of its sequence may leave, and what kernels are told
// about it.
#pragma once
#include <cstddef>

#include <tersekv/backend/cuda/apply.cuh>
#include <tersekv/backend/cuda/commit.hpp>
#include <tersekv/backend/cuda/core.cuh>
#include <tersekv/backend/cuda/query_window.cuh>
#include <tersekv/backend/cuda/sequence.cuh>
#include <tersekv/commit_request.hpp>

namespace tersekv::detail {

template <class Core>
class commit_part {
 public:
  /// keys, values: [slots] staged rows. Throws where the step cannot be accepted in part.
  commit_part(Core& core, typename Core::workspace& work, device_sequence<Core>& sequence,
              const commit_request& request, const slot_arrays& keys, const slot_arrays& values)
      : core_(core), work_(work), sequence_(sequence), request_(request), keys_(keys), values_(values),
        window_(core, work, sequence, request) {
    request_.check_observed(Core::needs_logits || Core::needs_window);
    due_ = Core::evicts && request_.trim_is_due(core_.evict.when, sequence_.in_prompt_, sequence_.decoded_);
  }

  device_sequence<Core>& sequence() const { return sequence_; }
  int accepted() const { return request_.accepted; }
  int most_rows() const { return sequence_.rows_most_; }  // accepted ones included, once reserved
  bool may_leave() const { return due_ || expires(); }

  /// Memory for what follows; may throw.
  void reserve_window() { window_.reserve(due_); }
  /// Signals are completed: layers that did not attend have no mass, and a window of queries attends.
  void complete_signals() {
    complete_mass();
    if (due_) window_.attend(keys_, values_);
  }

  /// Of the slots from `first` on; ranges: where those of the sequence stand.
  device_commit describe(int first, const position_range* ranges) const {
    const std::int64_t heads = std::int64_t{first} * core_.shape.kv_heads;
    const float* window = window_.attention();
    device_commit c{};
    c.heads = sequence_.heads_.data() + heads;
    c.keys = {keys_[first], keys_.bytes};
    c.mass = Core::needs_logits ? work_.mass.data() : nullptr;
    c.window = window ? window + heads * work_.signal_stride : nullptr;
    c.ranges = ranges, c.range_count = static_cast<int>(sequence_.ranges_.size());
    c.length = sequence_.length_;
    c.signal_stride = work_.signal_stride;
    c.tokens = request_.tokens, c.accepted = request_.accepted, c.observed = request_.observed;
    c.signal_rows = signal_rows(request_.tokens);
    c.window_queries = work_.window_queries;
    c.due = due_;
    return c;
  }
  /// last: the slots are the last ones, so the length changes.
  device_apply describe_apply(int first, bool last) const {
    return {sequence_.heads_.data() + first * core_.shape.kv_heads,
            {keys_[first], keys_.bytes},
            {values_[first], values_.bytes},
            sequence_.length_,
            request_.accepted,
            last ? sequence_.length_there_.data() : nullptr};
  }
  auto* merge_state(int first) const { return sequence_.merge_state_.data() + first * core_.shape.kv_heads; }
  const std::vector<position_range>& ranges() const { return sequence_.ranges_; }

  /// Rows have changed.
  void finish() {
    window_.keep();
    window_.finish();
    const bool prompt = request_.is_prompt(sequence_.in_prompt_);
    if (!prompt) sequence_.decoded_ += request_.accepted;
    sequence_.length_ += request_.accepted;
    sequence_.in_prompt_ = request_.more;
    if (due_ && prompt) sequence_.fit();
  }

 private:
  /// Whether some row is out of sight of all that read it.
  bool expires() const {
    const int seen = sequence_.length_ + request_.accepted;
    for (int s = 0; s < core_.plan.slots(); ++s)
      if (const int retained = core_.plan.retained(s); retained > 0 && seen >= retained) return true;
    return false;
  }
  void complete_mass() const {
    if constexpr (Core::needs_logits) {
      const std::size_t one = static_cast<std::size_t>(core_.shape.kv_heads * signal_rows(request_.tokens)) *
                              static_cast<std::size_t>(work_.signal_stride);
      for (std::size_t l = 0; l < work_.attended.size(); ++l)
        if (work_.attended[l] == 0)
          fill_on_device(work_.mass.data() + l * one, 0, one * sizeof(float), core_.backend.stream);
    }
  }

  Core& core_;
  typename Core::workspace& work_;
  device_sequence<Core>& sequence_;
  const commit_request request_;
  const slot_arrays keys_, values_;  // staged rows
  query_window<Core> window_;
  bool due_ = false;
};

}  // namespace tersekv::detail
