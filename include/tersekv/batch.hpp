// SPDX-License-Identifier: Apache-2.0
// A batch of steps, of sequences of one cache, that go on together, whatever their lengths: per layer one call that
// appends and one that attends, then one that commits. On a GPU each is about as many launches as for one step.
//
// Steps are given as pointers in an array, a vector or a span, each once; views one per step, in the same order.
#pragma once
#include <algorithm>
#include <cstddef>
#include <deque>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <tersekv/step.hpp>

namespace tersekv {

namespace detail {

inline void check_count(const char* verb, std::size_t steps, std::size_t given, const char* what) {
  if (given != steps)
    throw shape_error(std::string("tersekv::") + verb + ": " + std::to_string(steps) + " steps, " +
                      std::to_string(given) + " " + what + "; one of each per step");
}
/// same(a, b): whether two steps are of one cache.
template <class Step, class Same>
void check_steps(const char* verb, std::span<Step* const> steps, Same&& same) {
  for (const Step* s : steps)
    if (!same(*s, *steps.front()))
      throw usage_error(std::string("tersekv::") + verb + ": the steps of a batch are of one cache");
  std::vector<const Step*> sorted(steps.begin(), steps.end());
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    throw usage_error(std::string("tersekv::") + verb + ": the same step twice in a batch");
}

/// A batch on the CPU: one step after the other, but only where all of them can.
template <class Core>
class step_batch {
 public:
  using step = basic_step<Core>;

  step_batch(const char* verb, std::span<step* const> steps) : steps_(steps) {
    check_steps(verb, steps, [](const step& a, const step& b) { return &a.core_ == &b.core_; });
  }
  void append(int layer, std::span<const view> k, std::span<const view> v) {
    for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i]->check_append(layer, k[i], v[i]);
    for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i]->stage(layer, k[i], v[i]);
  }
  void attend(int layer, std::span<const view> q, std::span<const view> out) {
    for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i]->attend(layer, q[i], out[i]);
  }
  void commit(std::span<const int> accepted) {
    for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i]->check_commit(accepted[i]);
    std::deque<typename step::job> jobs;
    for (std::size_t i = 0; i < steps_.size(); ++i)
      if (accepted[i] > 0) jobs.push_back(steps_[i]->commit_of(accepted[i]));
    step::job::run(steps_.front()->core_, jobs);
    for (step* s : steps_) s->close();
  }

 private:
  std::span<step* const> steps_;
};

/// The batch of any range of pointers to steps; `work` is not called for an empty one.
template <class Steps, class Work>
void with_batch(const char* verb, const Steps& steps, Work&& work) {
  const std::span all(steps);
  using step = std::remove_pointer_t<typename decltype(all)::value_type>;
  if (!all.empty()) work(typename step::batch(verb, std::span<step* const>(all)));
}

}  // namespace detail

/// step.append(layer, k, v) for every step of the batch, on a GPU in one launch.
/// Errors  shape_error; those of step.append. No step has other rows than before then
template <class Steps>
void append(const Steps& steps, int layer, std::span<const view> k, std::span<const view> v) {
  const std::size_t count = std::size(steps);
  detail::check_count("append", count, k.size(), "views of keys");
  detail::check_count("append", count, v.size(), "views of values");
  detail::with_batch("append", steps, [&](auto batch) { batch.append(layer, k, v); });
}

/// step.attend(layer, q, out) for every step of the batch, on a GPU in one launch where that can be.
/// Errors  shape_error; those of step.attend. Steps before the one in question may have attended then
template <class Steps>
void attend(const Steps& steps, int layer, std::span<const view> q, std::span<const view> out) {
  const std::size_t count = std::size(steps);
  detail::check_count("attend", count, q.size(), "views of queries");
  detail::check_count("attend", count, out.size(), "views of outputs");
  detail::with_batch("attend", steps, [&](auto batch) { batch.attend(layer, q, out); });
}

/// step.commit(accepted) for every step of the batch: all of them or none. Memory for all is set aside before the first
/// sequence changes, so that a batch may need more at once than its steps one after the other.
/// accepted  tokens that each step keeps
/// Errors  shape_error; those of step.commit. No sequence has changed then, and all steps are open and whole
template <class Steps>
void commit(const Steps& steps, std::span<const int> accepted) {
  detail::check_count("commit", std::size(steps), accepted.size(), "numbers of accepted tokens");
  detail::with_batch("commit", steps, [&](auto batch) { batch.commit(accepted); });
}
/// With all tokens of all steps.
template <class Steps>
void commit(const Steps& steps) {
  std::vector<int> all;
  for (const auto* step : steps) all.push_back(step->tokens());
  commit(steps, std::span<const int>(all));
}

}  // namespace tersekv
