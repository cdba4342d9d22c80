// SPDX-License-Identifier: Apache-2.0
// Caches, sequences and steps behind virtual functions, for any_cache.
#pragma once
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <tersekv/batch.hpp>
#include <tersekv/cache.hpp>

namespace tersekv {

namespace detail {

struct erased_step {
  virtual ~erased_step() = default;
  virtual void append(int layer, const view& k, const view& v) = 0;
  virtual void attend(int layer, const view& q, const view& out, std::span<float> log_sum_exp) = 0;
  virtual float change(int layer) const = 0;
  virtual void commit(int accepted) = 0;
  // The verbs of batch.hpp, for steps that are all of this one's cache.
  using batch = std::span<erased_step* const>;
  virtual void append(batch all, int layer, std::span<const view> k, std::span<const view> v) const = 0;
  virtual void attend(batch all, int layer, std::span<const view> q, std::span<const view> out) const = 0;
  virtual void commit(batch all, std::span<const int> accepted) const = 0;
};
struct erased_sequence {
  virtual ~erased_sequence() = default;
  virtual std::unique_ptr<erased_step> step(int n, step_options options) = 0;
  virtual std::unique_ptr<erased_sequence> fork() const = 0;
  virtual int length() const = 0;
  virtual std::vector<int> positions(int slot, int head) const = 0;
  virtual void protect(int first, int last) = 0;
  virtual report_data report() const = 0;
};
struct erased_cache {
  virtual ~erased_cache() = default;
  virtual std::unique_ptr<erased_sequence> open() = 0;
  virtual const layer_plan& plan() const = 0;
  virtual report_data report() const = 0;
};

template <class Cache>
struct erased_cache_of final : erased_cache {
  using sequence_type = typename Cache::sequence_type;
  struct step_of final : erased_step {
    step_of(sequence_type& s, int n, step_options o) : step(s, n, o) {}
    void append(int layer, const view& k, const view& v) override { step.append(layer, k, v); }
    void attend(int layer, const view& q, const view& out, std::span<float> l) override {
      step.attend(layer, q, out, l);
    }
    float change(int layer) const override { return step.change(layer); }
    void commit(int accepted) override { step.commit(accepted); }
    using batch = erased_step::batch;
    void append(batch all, int layer, std::span<const view> k, std::span<const view> v) const override {
      tersekv::append(of(all), layer, k, v);
    }
    void attend(batch all, int layer, std::span<const view> q, std::span<const view> out) const override {
      tersekv::attend(of(all), layer, q, out);
    }
    void commit(batch all, std::span<const int> accepted) const override { tersekv::commit(of(all), accepted); }
    static std::vector<typename Cache::step_type*> of(batch all) {
      std::vector<typename Cache::step_type*> steps;
      for (erased_step* one : all) {
        auto* mine = dynamic_cast<step_of*>(one);
        if (mine == nullptr) throw usage_error("tersekv::any_step: the steps of a batch are of one cache");
        steps.push_back(&mine->step);
      }
      return steps;
    }
    typename Cache::step_type step;
  };
  struct sequence_of final : erased_sequence {
    explicit sequence_of(sequence_type s) : sequence(std::move(s)) {}
    std::unique_ptr<erased_step> step(int n, step_options o) override {
      return std::make_unique<step_of>(sequence, n, o);
    }
    std::unique_ptr<erased_sequence> fork() const override { return std::make_unique<sequence_of>(sequence.fork()); }
    int length() const override { return sequence.length(); }
    std::vector<int> positions(int slot, int head) const override { return sequence.positions(slot, head); }
    void protect(int first, int last) override { sequence.protect(first, last); }
    report_data report() const override { return sequence.report(); }
    sequence_type sequence;
  };
  explicit erased_cache_of(Cache c) : cache(std::move(c)) {}
  std::unique_ptr<erased_sequence> open() override { return std::make_unique<sequence_of>(cache.open()); }
  const layer_plan& plan() const override { return cache.plan(); }
  report_data report() const override { return cache.report(); }
  Cache cache;
};

}  // namespace detail

}  // namespace tersekv
