// SPDX-License-Identifier: Apache-2.0
// A batch of steps on a device, as the verbs of batch.hpp take it: rows of all are staged in one launch, their queries
// meet packed rows in one launch, and they are committed by one job. Long steps, pages that queries choose and formats
// without a decode kernel attend one step after the other.
#pragma once
#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <tersekv/backend/cuda/faults.cuh>
#include <tersekv/backend/cuda/step.cuh>
#include <tersekv/batch.hpp>

namespace tersekv::detail {

template <class Core>
class device_batch {
 public:
  using step = device_step<Core>;
  using page = typename Core::page;

  device_batch(const char* verb, std::span<step* const> steps) : steps_(steps), core_(steps.front()->core_) {
    check_steps(verb, steps, [](const step& a, const step& b) { return &a.core_ == &b.core_; });
    for (const step* s : steps) {
      limits_.tokens = std::max(limits_.tokens, s->n_);
      limits_.packed = std::max(limits_.packed, s->sequence_.rows_most_);
      limits_.numbers = std::max(limits_.numbers, s->sequence_.room_.sinks + s->sequence_.room_.window);
    }
    limits_.sequences = static_cast<int>(steps.size());
  }

  void append(int layer, std::span<const view> k, std::span<const view> v) {
    for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i]->check_append(layer, k[i], v[i]);
    if (steps_.size() == 1 || !stages_together(k))
      return each([&](std::size_t i) { steps_[i]->append(layer, k[i], v[i]); });
    std::vector<step_to_stage> rows;
    each([&](std::size_t i) { rows.push_back(steps_[i]->stage(layer, k[i], v[i])); });
    stage_rows(steps_.front()->staging(limits_.sequences, limits_.tokens), core_.describe(layer, rows), stream());
  }

  void attend(int layer, std::span<const view> q, std::span<const view> out) {
    if (!attends_together()) return each([&](std::size_t i) { steps_[i]->attend(layer, q[i], out[i]); });
    if constexpr (decodes_packed<page>()) {
      std::vector<device_query> queries;
      each([&](std::size_t i) { queries.push_back(steps_[i]->describe(layer, q[i], out[i], {})); });
      const device_query* batch = core_.describe(layer, queries);
      const model_shape& shape = core_.shape;
      const attend_shape about{shape.kv_heads, shape.group(), shape.scale, core_.plan.window(layer),
                               core_.plan.sees_self(layer)};
      constexpr bool recorded = Core::needs_logits;
      std::byte* workspace =
          steps_.front()->work_->scratch.at_least(decode_workspace_bytes(about, shape.value_dim, limits_, recorded));
      packed_attention<page>(core_.format, about, batch, limits_, workspace, recorded, {}, stream());
      if constexpr (recorded) {
        std::vector<step_mass> targets;
        each([&](std::size_t i) { targets.push_back(steps_[i]->mass_of(layer)); });
        column_mass<page>(core_.format, about, batch, limits_, workspace, {}, core_.describe(layer, targets), stream());
      }
      each([&](std::size_t i) { steps_[i]->end_attend(layer, queries[i]); });
    }
  }

  void commit(std::span<const int> accepted) {
    each([&](std::size_t i) { steps_[i]->check_commit(accepted[i]); });
    if (core_.backend.check_numbers) check_numbers(accepted);
    device_commit_job<Core> job(core_);
    each([&](std::size_t i) {
      if (accepted[i] > 0) steps_[i]->add_to(job, accepted[i]);
    });
    job.run();
    each([&](std::size_t i) { steps_[i]->close(); });
  }

 private:
  cuda_stream stream() const { return core_.backend.stream; }
  template <class Work>
  void each(Work&& work) const {
    for (std::size_t i = 0; i < steps_.size(); ++i) work(i);
  }
  bool stages_together(std::span<const view> k) const {
    for (const view& rows : k)
      if (rows.type() != k.front().type()) return false;
    return true;
  }
  bool attends_together() const {
    const model_shape& shape = core_.shape;
    return decodes_packed<page>() && !Core::read_type::selects && decodes_dims(shape.head_dim, shape.value_dim) &&
           (limits_.tokens == 1 || limits_.tokens * shape.group() <= 32);
  }

  /// One wait for all steps; the words of a step are read where they tell of a fault.
  void check_numbers(std::span<const int> accepted) {
    const std::size_t count = steps_.size();
    if (count == 1) return check_step(0, accepted[0]);
    int* least = core_.least_faults.at_least(count);
    for (std::size_t first = 0; first < count; first += fault_words::most) {
      fault_words a{{}, static_cast<int>(steps_.front()->fault_words()), least + first};
      const std::size_t some = std::min(count - first, std::size_t{fault_words::most});
      for (std::size_t i = 0; i < some; ++i) a.steps[i] = steps_[first + i]->work_->faults.data();
      least_faults(a, static_cast<int>(some), stream());
    }
    std::vector<int> found(count);
    copy_to_host(found.data(), least, count * sizeof(int), stream());
    each([&](std::size_t i) {
      if (found[i] == no_fault)
        steps_[i]->work_->faultless = true;
      else
        check_step(i, accepted[i]);
    });
  }
  void check_step(std::size_t i, int accepted) {
    steps_[i]->check_numbers(accepted, "tersekv::commit: step " + std::to_string(i) + " of the batch: ");
  }

  std::span<step* const> steps_;
  Core& core_;
  decode_limits limits_{};
};

}  // namespace tersekv::detail
