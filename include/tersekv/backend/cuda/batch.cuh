// SPDX-License-Identifier: Apache-2.0
// A batch of steps on a device, as attend() of batch.hpp takes it: their queries meet packed rows in one launch.
// Recipes that take signals from attention, long steps and formats without a decode kernel attend one step after the
// other.
#pragma once
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include <tersekv/backend/cuda/step.cuh>
#include <tersekv/batch.hpp>

namespace tersekv {

namespace detail {

template <class Core>
class batch_attention {
 public:
  using step_type = device_step<Core>;
  using page = typename Core::page;

  explicit batch_attention(std::span<step_type* const> steps) : steps_(steps), core_(steps.front()->core_) {
    for (const step_type* s : steps) {
      if (&s->core_ != &core_) throw usage_error("tersekv::attend: the steps of a batch are of one cache");
      limits_.tokens = std::max(limits_.tokens, s->n_);
      limits_.packed = std::max(limits_.packed, s->sequence_.rows_most_);
      limits_.numbers = std::max(limits_.numbers, s->sequence_.room_.sinks + s->sequence_.room_.window);
    }
    limits_.sequences = static_cast<int>(steps.size());
  }

  /// Whether one launch does.
  bool together() const {
    const model_shape& shape = core_.shape;
    return decodes_packed<page>() && !Core::needs_logits && !Core::read_type::selects &&
           decodes_dims(shape.head_dim, shape.value_dim) &&
           (limits_.tokens == 1 || limits_.tokens * shape.group() <= 32);
  }

  void run(int layer, std::span<const view> q, std::span<const view> out) {
    if constexpr (decodes_packed<page>()) {
      std::vector<device_query> queries;
      for (std::size_t i = 0; i < steps_.size(); ++i) queries.push_back(steps_[i]->describe(layer, q[i], out[i], {}));
      const device_query* batch = core_.describe_batch(layer, queries);
      const model_shape& shape = core_.shape;
      const attend_shape about{shape.kv_heads, shape.group(), shape.scale, core_.plan.window(layer),
                               core_.plan.sees_self(layer)};
      std::byte* workspace =
          steps_.front()->work_->scratch.at_least(decode_workspace_bytes(about, shape.value_dim, limits_, false));
      packed_attention<page>(core_.format, about, batch, limits_, workspace, false, {}, core_.backend.stream);
      for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i]->end_attend(layer, queries[i]);
    }
  }

 private:
  std::span<step_type* const> steps_;
  Core& core_;
  decode_limits limits_{};
};

}  // namespace detail

}  // namespace tersekv
