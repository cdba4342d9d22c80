// SPDX-License-Identifier: Apache-2.0
// What every step asks of its arguments, wherever it computes. Core = cache_core or what stands for it on a device.
#pragma once
#include <cstddef>
#include <string>

#include <tersekv/error.hpp>
#include <tersekv/layer_plan.hpp>
#include <tersekv/shape.hpp>
#include <tersekv/view.hpp>

namespace tersekv::detail {

class step_checks {
 public:
  step_checks(const model_shape& shape, const layer_plan& plan, int tokens, int question)
      : shape_(shape), plan_(plan), tokens_(tokens) {
    if (tokens < 1) throw shape_error("tersekv::sequence::step: " + std::to_string(tokens) + " tokens; at least 1");
    if (question < 0 || question > tokens)
      throw shape_error("tersekv::sequence::step: question of " + std::to_string(question) + " tokens in a step of " +
                        std::to_string(tokens));
  }

  void layer(int layer, const char* verb) const {
    if (layer < 0 || layer >= shape_.layers)
      throw shape_error(std::string("tersekv::step::") + verb + ": layer " + std::to_string(layer) + " of " +
                        std::to_string(shape_.layers));
  }
  void append(int layer, const view& k, const view& v) const {
    this->layer(layer, "append");
    if (!plan_.owns(layer))
      throw usage_error("tersekv::step::append: layer " + std::to_string(layer) + " owns no slot; it reads layer " +
                        std::to_string(plan_.kv(layer)) + " (ask cache.owns(layer) first)");
    rows("append", "k", k, shape_.kv_heads, shape_.head_dim);
    rows("append", "v", v, shape_.kv_heads, shape_.value_dim);
  }
  /// log_sum_exp: its elements; 0 = not wanted. staged: whether the slot's rows of this step were appended.
  void attend(int layer, const view& q, const view& out, std::size_t log_sum_exp) const {
    this->layer(layer, "attend");
    rows("attend", "q", q, shape_.query_heads, shape_.head_dim);
    rows("attend", "out", out, shape_.query_heads, shape_.value_dim);
    if (!out.writable()) throw usage_error("tersekv::step::attend: out is a view of const numbers");
    const auto wanted = static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(shape_.query_heads);
    if (log_sum_exp != 0 && log_sum_exp != wanted)
      throw shape_error("tersekv::step::attend: log_sum_exp has " + std::to_string(log_sum_exp) +
                        " elements, needs n * query_heads = " + std::to_string(wanted));
  }
  void staged(int layer, bool is_staged) const {
    if (!is_staged && !plan_.reads_upward(layer))
      throw usage_error("tersekv::step::attend: layer " + std::to_string(layer) + " reads layer " +
                        std::to_string(plan_.kv(layer)) + ", whose rows of this step were not appended yet");
  }
  void change(int layer) const {
    this->layer(layer, "change");
    if (!plan_.owns(layer))
      throw usage_error("tersekv::step::change: layer " + std::to_string(layer) + " owns no slot");
  }
  template <class Staged>
  void commit(int accepted, const Staged& staged) const {
    if (accepted < 0 || accepted > tokens_)
      throw shape_error("tersekv::step::commit: " + std::to_string(accepted) + " tokens accepted of " +
                        std::to_string(tokens_));
    for (int s = 0; s < plan_.slots(); ++s)
      if (accepted > 0 && !staged[static_cast<std::size_t>(s)])
        throw usage_error("tersekv::step::commit: layer " + std::to_string(plan_.writer(s)) +
                          " was not appended in this step");
  }

 private:
  void rows(const char* verb, const char* what, const view& x, int heads, int dim) const {
    if (x.rows() != tokens_ || x.heads() != heads || x.dim() != dim)
      throw shape_error(std::string("tersekv::step::") + verb + ": " + what + " is " + x.describe() + ", must be [" +
                        std::to_string(tokens_) + ", " + std::to_string(heads) + ", " + std::to_string(dim) + "]");
  }

  const model_shape& shape_;
  const layer_plan& plan_;
  int tokens_;
};

inline void require_open(bool open, const char* verb) {
  if (!open) throw usage_error(std::string("tersekv::step::") + verb + ": this step was committed");
}

}  // namespace tersekv::detail
