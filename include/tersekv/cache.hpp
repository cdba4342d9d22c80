// SPDX-License-Identifier: Apache-2.0
// The container. One fixed order of work, whatever the order of the policies:
//
//   append   rows enter the step's staging area, full precision                               share
//   attend   queries meet pages, window and staged rows; signals are emitted                  share, read, codec, evict
//   commit   staged rows become rows of their heads; then, per slot and head:
//     trim   over budget? score, select, fold the leavers into stayers, remove                budget, evict, merge
//     pack   rows leaving the window are encoded, a span at a time                            codec
//
//   auto cache = tersekv::make_cache({.layers = 22, .query_heads = 32, .kv_heads = 4, .head_dim = 64},
//                                    tersekv::cpu{}, tersekv::h2o{.heavy = 256, .recent = 256}, tersekv::kivi<2>{});
//   auto chat = cache.open();          // a sequence
//   auto step = chat.step(n);          // n new tokens
//   step.append(layer, k, v);  step.attend(layer, q, out);  step.commit();
//
// Read before: policy.hpp (what policies are), step.hpp (the verbs). Sequences may be used on different threads, each
// on one at a time.
#pragma once
#include <memory>
#include <tuple>
#include <utility>

#include <tersekv/step.hpp>

namespace tersekv {

namespace detail {
/// What a cache consists of; backends on devices bring their own.
template <class Backend, class... Policies>
struct container {
  using core = cache_core<Backend, Policies...>;
  using sequence = basic_sequence<core>;
  using step = basic_step<core>;
};
}  // namespace detail

template <class Backend, class Share, class Evict, class Budget, class Merge, class Codec, class Read, class Rotary>
class basic_cache {
  using parts = detail::container<Backend, Share, Evict, Budget, Merge, Codec, Read, Rotary>;

 public:
  using core_type = typename parts::core;
  using sequence_type = typename parts::sequence;
  using step_type = typename parts::step;

  /// Policies in any order; roles that are not named get their defaults. Throws shape_error.
  template <class... Ps>
  explicit basic_cache(const model_shape& shape, Ps... policies) : basic_cache(shape, std::tuple<Ps...>(policies...)) {}
  template <class... Ps>
  basic_cache(const model_shape& shape, const std::tuple<Ps...>& ps)
      : core_(std::make_shared<core_type>(shape, detail::choose<Backend>(ps), detail::choose<Share>(ps),
                                          detail::choose<Evict>(ps), detail::choose<Budget>(ps),
                                          detail::choose<Merge>(ps), detail::choose<Codec>(ps),
                                          detail::choose<Read>(ps), detail::choose<Rotary>(ps))) {}

  /// A new, empty sequence. It may outlive the cache object.
  sequence_type open() { return sequence_type(core_); }

  const model_shape& shape() const { return core_->shape; }
  const layer_plan& plan() const { return core_->plan; }
  /// Whether a layer writes rows; the others only read.
  bool owns(int layer) const { return core_->plan.owns(layer); }
  /// The order in which n new tokens visit the layers (see layer_plan::schedule).
  std::vector<layer_range> schedule(int n) const { return core_->plan.schedule(n); }
  /// Bytes that the pool holds for all sequences.
  std::size_t bytes() const { return core_->memory.held(); }
  std::size_t peak_bytes() const { return core_->memory.peak(); }
  /// Bytes of one page of one head: codes, metadata, summary and 64 bytes of bookkeeping.
  std::size_t page_bytes() const { return core_->format.bytes(); }
  static constexpr int page_rows = core_type::page::rows;
  /// Policies as they were tuned.
  const auto& evict() const { return core_->evict; }
  const auto& codec() const { return core_->codec; }

  /// Rows and bytes of all open sequences; `bytes` is what the pool holds for them.
  report_data report() const {
    report_data out;
    core_->for_each_sequence([&](const sequence_type& s) { s.add_to(out); });
    out.bytes = bytes();
    out.peak_bytes = peak_bytes();
    out.workspace_bytes = core_->idle_bytes();
    finish_report(out, core_->shape, core_->plan);
    return out;
  }

 private:
  std::shared_ptr<core_type> core_;
};

/// The cache of these policies, with their tuning: make_cache(shape, cpu{}, h2o{.heavy = 64, .recent = 64}, int4<>{}).
template <class... Ps>
auto make_cache(const model_shape& shape, Ps... policies) {
  using recipe = detail::composed<Ps...>;
  if constexpr (recipe::good)
    return typename recipe::type(shape, std::tuple<Ps...>(std::move(policies)...));
  else
    return typename recipe::type(shape, std::tuple<>());  // the compiler has already said what is wrong
}

/// What a cache or a sequence holds.
template <class Holder>
report_data report(const Holder& holder) {
  return holder.report();
}

}  // namespace tersekv
