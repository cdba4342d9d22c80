// SPDX-License-Identifier: Apache-2.0
// A batch of steps, of sequences of one cache, that attend together: one call per layer, whatever their lengths.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>

#include <tersekv/step.hpp>

namespace tersekv {

namespace detail {
inline void check_batch(std::size_t steps, std::size_t queries, std::size_t outputs) {
  if (queries != steps || outputs != steps)
    throw shape_error("tersekv::attend: " + std::to_string(steps) + " steps, " + std::to_string(queries) +
                      " views of queries, " + std::to_string(outputs) + " of outputs; one of each per step");
}
}  // namespace detail

/// step.attend(layer, q, out) for every step of the batch, on a GPU in one launch where that can be.
/// steps  pointers to steps, in an array, a vector or a span      q, out  one view per step
/// Errors  shape_error; those of step.attend
template <class Steps>
void attend(const Steps& steps, int layer, std::span<const view> q, std::span<const view> out) {
  const std::span all(steps);
  using step = std::remove_pointer_t<typename decltype(all)::value_type>;
  detail::check_batch(all.size(), q.size(), out.size());
  if constexpr (requires { typename step::batch; }) {
    if (all.empty()) return;
    typename step::batch batch(all);
    if (batch.together()) return batch.run(layer, q, out);
  }
  for (std::size_t i = 0; i < all.size(); ++i) all[i]->attend(layer, q[i], out[i]);
}

}  // namespace tersekv
