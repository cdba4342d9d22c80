// SPDX-License-Identifier: Apache-2.0
// A transaction over n new tokens of one sequence on a device; the verbs of step.hpp. Views name device memory. Verbs
// enqueue work on the backend's stream and do not wait for it; exceptions: change(), and commit(), where numbers are
// checked (cuda::check_numbers) or a sequence needs more room.
#pragma once
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <tersekv/backend/cuda/change.cuh>
#include <tersekv/backend/cuda/commit_job.cuh>
#include <tersekv/backend/cuda/layer_attention.cuh>
#include <tersekv/backend/cuda/stage.cuh>
#include <tersekv/step_checks.hpp>

namespace tersekv {

template <class Core>
class device_step {
 public:
  using batch = detail::device_batch<Core>;

  device_step(device_sequence<Core>& sequence, int n, step_options options)
      : sequence_(sequence), core_(*sequence.core_), check_(core_.shape, core_.plan, n, options.question), n_(n),
        options_(options), slots_(static_cast<std::size_t>(core_.plan.slots())) {
    sequence.require_closed("step");
    work_ = core_.borrow();
    staged_.assign(slots_, 0);
    if (core_.backend.check_numbers) forget_faults();
    work_->attended.assign(static_cast<std::size_t>(core_.shape.layers), 0);
    work_->signal_stride = (sequence.rows_most_ + n + 127) / 128 * 128;  // so that it seldom changes
    if (Core::needs_logits)
      work_->mass.at_least(static_cast<std::size_t>(core_.shape.layers * core_.shape.kv_heads) *
                           static_cast<std::size_t>(detail::signal_rows(n) * work_->signal_stride));
    sequence.open_ = true;
  }
  device_step(const device_step&) = delete;
  device_step& operator=(const device_step&) = delete;
  ~device_step() { close(); }

  int tokens() const { return n_; }

  /// As basic_step::append; all rows of a step have elements of one type. Numbers that are not finite are noticed by
  /// commit.
  void append(int layer, const view& k, const view& v) {
    check_append(layer, k, v);
    const detail::step_to_stage rows = stage(layer, k, v);
    detail::stage_rows(staging(1, n_), rows, stream());
  }

  /// As basic_step::attend; log_sum_exp is device memory as well.
  void attend(int layer, const view& q, const view& out, std::span<float> log_sum_exp = {}) {
    const detail::device_query query = describe(layer, q, out, log_sum_exp);
    detail::layer_attention<Core>(core_, *work_, sequence_, layer, n_).run(query, observed(n_));
    end_attend(layer, query);
  }

  /// As basic_step::change; waits for the device.
  float change(int layer) const {
    detail::require_open(work_ != nullptr, "change");
    check_.change(layer);
    const auto slot = static_cast<std::size_t>(core_.plan.written_slot(layer));
    if (staged_[slot] < 2) return 1.0f;
    float found[2];  // largest number, largest move
    detail::copy_to_host(found, work_->changes.data() + 2 * slot, sizeof found, stream());
    return found[1] == 0 ? 0.0f : found[0] > 0 ? found[1] / found[0] : 1.0f;
  }

  void commit() { commit(n_); }
  /// As basic_step::commit. Errors  also value_error: a row that counts is not finite; the step is still open
  void commit(int accepted) {
    check_commit(accepted);
    if (core_.backend.check_numbers) check_numbers(accepted, "tersekv::step::commit: ");
    if (accepted > 0) {
      detail::device_commit_job<Core> job(core_);
      add_to(job, accepted);
      job.run();
    }
    close();
  }

 private:
  friend class detail::device_batch<Core>;
  cuda_stream stream() const { return core_.backend.stream; }
  std::size_t fault_words() const { return 2 * slots_ + static_cast<std::size_t>(core_.shape.layers); }
  int observed(int accepted) const { return std::max(0, std::min(n_ - options_.question, accepted)); }
  detail::commit_request request(int accepted) const {
    return {n_, accepted, observed(n_), observed(accepted), options_.more, options_.decode};
  }
  void close() noexcept {
    if (!work_) return;
    core_.give_back(std::move(work_));
    sequence_.open_ = false;
  }

  // ---------------------------------------------------------------------------------------------------------- append
  void check_append(int layer, const view& k, const view& v) const {
    detail::require_open(work_ != nullptr, "append");
    check_.append(layer, k, v);
    const element type = keys_.first.data != nullptr ? type_ : k.type();
    if (k.type() != type || v.type() != type)
      throw usage_error("tersekv::step::append: rows of layer " + std::to_string(layer) +
                        " have elements of another type than those before; on a device a step has one type");
  }
  detail::stage_shape staging(int sequences, int most_tokens) const {
    const model_shape& shape = core_.shape;
    return {sequences, most_tokens, shape.kv_heads, shape.head_dim, shape.value_dim, type_};
  }
  /// What stage_rows is to copy, at once.
  detail::step_to_stage stage(int layer, const view& k, const view& v) {
    open_staging(k.type());
    const auto slot = static_cast<std::size_t>(core_.plan.written_slot(layer));
    int* faults = core_.backend.check_numbers ? work_->faults.data() + 2 * slot : nullptr;
    const detail::step_to_stage rows{{detail::to_array(k), keys_[static_cast<int>(slot)]},
                                     {detail::to_array(v), values_[static_cast<int>(slot)]},
                                     n_,
                                     faults};
    if (staged_[slot] != 0) {
      compare(slot, rows);
      if (faults) detail::fill_on_device(faults, 0x7f, 2 * sizeof(int), stream());
    }
    staged_[slot] = static_cast<unsigned char>(staged_[slot] == 0 ? 1 : 2);
    work_->faultless = false;
    return rows;
  }
  void compare(std::size_t slot, const detail::step_to_stage& rows) {
    const int heads = core_.shape.kv_heads;
    int* to = work_->changes.at_least(2 * slots_) + 2 * slot;
    detail::fill_on_device(to, 0, 2 * sizeof(int), stream());
    detail::compare_rows({rows.first.from, rows.first.to, n_, heads, core_.shape.head_dim, to}, stream());
    detail::compare_rows({rows.second.from, rows.second.to, n_, heads, core_.shape.value_dim, to}, stream());
  }
  /// Staged rows of all slots. Zero is what upward readers see in the first pass.
  void open_staging(element type) {
    if (keys_.first.data != nullptr) return;
    const model_shape& shape = core_.shape;
    const auto one = static_cast<std::size_t>(n_ * shape.kv_heads) * (type == element::f32 ? 4u : 2u);
    const std::size_t key_bytes = one * static_cast<std::size_t>(shape.head_dim);
    const std::size_t bytes = key_bytes + one * static_cast<std::size_t>(shape.value_dim);
    std::byte* at = work_->staged.at_least(bytes * slots_);
    const auto stride = static_cast<std::int64_t>(bytes);
    type_ = type;
    keys_ = {{at, type, shape.kv_heads * shape.head_dim, shape.head_dim}, stride};
    values_ = {{at + key_bytes, type, shape.kv_heads * shape.value_dim, shape.value_dim}, stride};
    for (int layer = 0; layer < shape.layers; ++layer)
      if (core_.plan.reads_upward(layer))
        return detail::fill_on_device(work_->staged.data(), 0, bytes * slots_, stream());
  }

  // ---------------------------------------------------------------------------------------------------------- attend
  detail::device_query describe(int layer, const view& q, const view& out, std::span<float> log_sum_exp) {
    detail::require_open(work_ != nullptr, "attend");
    check_.attend(layer, q, out, log_sum_exp.size());
    const auto slot = static_cast<std::size_t>(core_.plan.slot(layer));
    check_.staged(layer, staged_[slot] != 0);
    open_staging(q.type());
    work_->faultless = false;
    return {sequence_.heads_.data() + static_cast<int>(slot) * core_.shape.kv_heads,
            detail::to_array(q),
            detail::to_array(out),
            log_sum_exp.empty() ? nullptr : log_sum_exp.data(),
            keys_[static_cast<int>(slot)],
            values_[static_cast<int>(slot)],
            sequence_.length_there_.data(),
            n_,
            core_.backend.check_numbers ? begin_fault(layer) : nullptr};
  }
  /// Where queries that are not finite are noted; what an earlier pass of the layer found is forgotten.
  int* begin_fault(int layer) {
    int* fault = work_->faults.data() + 2 * slots_ + layer;
    if (work_->attended[static_cast<std::size_t>(layer)]) detail::fill_on_device(fault, 0x7f, sizeof(int), stream());
    return fault;
  }
  detail::step_mass mass_of(int layer) const {
    return detail::layer_attention<Core>(core_, *work_, sequence_, layer, n_).target();
  }
  void end_attend(int layer, const detail::device_query& query) {
    work_->attended[static_cast<std::size_t>(layer)] = 1;
    detail::query_window<Core>::take(core_, *work_, sequence_, layer, query.queries, request(n_));
  }

  // ---------------------------------------------------------------------------------------------------------- commit
  void check_commit(int accepted) const {
    detail::require_open(work_ != nullptr, "commit");
    check_.commit(accepted, staged_);
  }
  void add_to(detail::device_commit_job<Core>& job, int accepted) {
    job.add(*work_, sequence_, request(accepted), keys_, values_);
  }
  /// Before a step. Mostly there is nothing to forget, since the last step that had this memory found no fault.
  void forget_faults() {
    work_->faults.at_least(fault_words());
    if (!work_->faultless) detail::fill_on_device(work_->faults.data(), 0x7f, work_->faults.held(), stream());
    work_->faultless = true;
  }
  /// Waits for the device. Throws where an accepted row is not finite; the sentence begins with `verb`.
  void check_numbers(int accepted, const std::string& verb) {
    std::vector<int> faults(fault_words());
    detail::copy_to_host(faults.data(), work_->faults.data(), faults.size() * sizeof(int), stream());
    work_->faultless = true;
    for (std::size_t i = 0; i < faults.size(); ++i) {
      if (faults[i] == detail::no_fault) continue;
      work_->faultless = false;
      const bool query = i >= 2 * slots_;
      const int heads = query ? core_.shape.query_heads : core_.shape.kv_heads, token = faults[i] / heads;
      if (token >= accepted) continue;
      const int layer = query ? static_cast<int>(i - 2 * slots_) : core_.plan.writer(static_cast<int>(i / 2));
      throw value_error(verb +
                        (query        ? "q"
                         : i % 2 == 0 ? "k"
                                      : "v") +
                        " of layer " + std::to_string(layer) + " has NaN or infinity in token " +
                        std::to_string(token) + " of the step, head " + std::to_string(faults[i] % heads));
    }
  }

  device_sequence<Core>& sequence_;
  Core& core_;
  detail::step_checks check_;
  int n_;
  step_options options_;
  std::size_t slots_;
  element type_ = element::f16;
  detail::slot_arrays keys_{}, values_{};  // staged
  std::vector<unsigned char> staged_;      // [slots] 1 = appended, 2 = more than once
  std::unique_ptr<typename Core::workspace> work_;
};

}  // namespace tersekv
