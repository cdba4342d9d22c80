// SPDX-License-Identifier: Apache-2.0
// One layer's attention in a step on a device: which kernel, which pages, and what it leaves for policies. As
// step.hpp and signals.hpp do on the CPU.
#pragma once
#include <tersekv/backend/cuda/choose_pages.cuh>
#include <tersekv/backend/cuda/decode_launch.cuh>
#include <tersekv/backend/cuda/prompt_mass.cuh>
#include <tersekv/backend/cuda/sequence.cuh>
#include <tersekv/backend/cuda/stage.cuh>
#include <tersekv/commit_request.hpp>

namespace tersekv::detail {

template <class Core>
class layer_attention {
 public:
  using page = typename Core::page;

  layer_attention(Core& core, typename Core::workspace& work, device_sequence<Core>& sequence, int layer, int n)
      : core_(core), work_(work), sequence_(sequence), layer_(layer),
        n_(n), shape_{core.shape.kv_heads, core.shape.group(), core.shape.scale, core.plan.window(layer),
                      core.plan.sees_self(layer)} {}

  /// observed: tokens whose attention policies may look at.
  void run(const device_query& query, int observed) {
    float* mass = mass_of_layer();
    device_query with_sums = query;
    if (mass != nullptr && with_sums.log_sum_exp == nullptr)  // masses are taken from it
      with_sums.log_sum_exp = work_.sums.at_least(at(n_) * at(core_.shape.query_heads));
    const device_query* q = sequence_.describe(layer_, with_sums);
    if constexpr (decodes_packed<page>())
      if ((n_ == 1 || n_ * shape_.group <= 32) && decodes_dims(core_.shape.head_dim, core_.shape.value_dim))
        return decode(q, mass);
    look_at(query);
    forget(mass);
    const page_lists lists = choose(q);
    if (lists.pages != nullptr)
      reference_attention<page>(core_.format, shape_, q, 1, n_, nullptr, lists, stream());
    else
      prompt_attention<page>(core_.format, shape_, q, 1, n_, nullptr, stream());
    if (mass != nullptr)
      prompt_mass<page>(core_.format, shape_, q, 1, n_, sequence_.rows_most_ + n_, nullptr, lists, observed, mass,
                        signal_rows(n_), work_.signal_stride, stream());
  }

  /// Where the step keeps the layer's mass.
  step_mass target() const { return {mass_of_layer(), work_.signal_stride, signal_rows(n_)}; }

 private:
  cuda_stream stream() const { return core_.backend.stream; }
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

  std::int64_t numbers_of_mass() const {
    return static_cast<std::int64_t>(shape_.kv_heads) * signal_rows(n_) * work_.signal_stride;
  }
  /// Null where no policy needs it.
  float* mass_of_layer() const { return Core::needs_logits ? work_.mass.data() + layer_ * numbers_of_mass() : nullptr; }
  void forget(float* mass) const {
    if (mass != nullptr) fill_on_device(mass, 0, at(numbers_of_mass()) * sizeof(float), stream());
  }
  /// Queries that are not finite would spoil what policies remember. Decode attention looks by itself.
  void look_at(const device_query& query) const {
    if (query.fault != nullptr)
      stage_rows({1, n_, core_.shape.query_heads, core_.shape.head_dim, 0, query.queries.type},
                 step_to_stage{{query.queries, {}}, {}, n_, query.fault}, stream());
  }

  /// Pages that the read policy names for the queries of one token.
  page_lists choose([[maybe_unused]] const device_query* q) {
    if constexpr (Core::read_type::selects)
      if (n_ == 1) {
        const int pages = sequence_.rows_most_ / page::rows + 1;
        std::byte* lists = work_.lists.at_least(choose_pages_workspace<page>(core_.format, shape_, 1, pages));
        return choose_pages<page>(core_.format, shape_, q, 1, pages, lists, stream());
      }
    return {};
  }

  void decode(const device_query* q, float* mass) {
    const page_lists lists = choose(q);
    const decode_limits most{1, n_, sequence_.rows_most_, sequence_.room_.sinks + sequence_.room_.window};
    const std::size_t bytes = decode_workspace_bytes(shape_, core_.shape.value_dim, most, Core::needs_logits);
    std::byte* workspace = work_.scratch.at_least(bytes);
    packed_attention<page>(core_.format, shape_, q, most, workspace, Core::needs_logits, lists, stream());
    if (lists.pages != nullptr) forget(mass);  // of rows that are not read
    if (mass != nullptr) column_mass<page>(core_.format, shape_, q, most, workspace, lists, target(), stream());
  }

  Core& core_;
  typename Core::workspace& work_;
  device_sequence<Core>& sequence_;
  int layer_, n_;
  attend_shape shape_;
};

}  // namespace tersekv::detail
