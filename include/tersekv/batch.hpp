// SPDX-License-Identifier: Apache-2.0
// A batch of steps, of sequences of one cache, that attend together: one call per layer, whatever their lengths.
#pragma once
#include <cstddef>
#include <span>
#include <string>

#include <tersekv/step.hpp>

namespace tersekv {

namespace detail {
inline void check_batch(std::size_t steps, std::size_t queries, std::size_t outputs) {
  if (queries != steps || outputs != steps)
    throw shape_error("tersekv::attend: " + std::to_string(steps) + " steps, " + std::to_string(queries) +
                      " views of queries, " + std::to_string(outputs) + " of outputs; one of each per step");
}
}  // namespace detail

/// step.attend(layer, q, out) for every step of the batch; q, out: one view per step.
/// Errors  shape_error; those of step.attend
template <class Step>
void attend(std::span<Step* const> steps, int layer, std::span<const view> q, std::span<const view> out) {
  detail::check_batch(steps.size(), q.size(), out.size());
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i]->attend(layer, q[i], out[i]);
}

}  // namespace tersekv
