// SPDX-License-Identifier: Apache-2.0
// tersekv/merge/d2o.hpp
//
// d2o: fold leaving rows into the rows with the most similar keys, where they are similar enough; drop the others.
//
// Paper     Wan et al., "D2O: Dynamic Discriminative Operations for Efficient Long-Context Inference of Large Language
//           Models", ICLR 2025, arXiv:2406.13035 (the token-level part)
// Formula   u_e = max_c cos(k_e, k_c) over staying rows c, c(e) = argmax_c
//           tau = mean_e u_e at the first fold, later tau <- alpha tau + beta mean_e u_e; e is folded if u_e >= tau
//           x_c <- (e^1 x_c + sum_e e^u_e x_e) / (e^1 + sum_e e^u_e) over the e with c(e) = c, for x = k and x = v
//           released_code: x_c <- (x_c + sum_e u_e x_e) / (1 + n), n rows folded: vectors shrink
// Shapes    k [kv_heads, n, d]     v [kv_heads, n, dv]     tau [sequence, slot, head]
// Differs   decided per KV head, with a threshold per sequence, slot and head; the authors' code repeats the KV heads
// and
//           averages similarities over heads and sequences. A folded row keeps its own score. Uneven budgets over
//           layers are the budget policy's business
// Cost      leavers x stayers x d products per head and trim
// Needs     rows that leave; rows that can be rewritten
// With      a codec that packs groups: only rows of its window take part. Sinks and protected rows are left alone
#pragma once
#include <cmath>
#include <string_view>
#include <vector>

#include <tersekv/merge/nearest.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

/// How a survivor and what is folded into it are weighed.
enum class d2o_rule : unsigned char { paper, released_code };

struct d2o_on_device;  // d2o.cuh

struct d2o {
  using role = tersekv::role::merge;
  static constexpr std::string_view name = "d2o";
  static constexpr int columns = 0;
  static constexpr bool folds = true;
  using on_device = d2o_on_device;
  struct head_state {
    float tau = 0;  // threshold
    bool begun = false;
  };

  float alpha = 0.5f;  // weight of the old threshold
  float beta = 0.5f;   // weight of the new mean similarity
  d2o_rule rule = d2o_rule::paper;
  bool into_recent = true;  // the newest rows may take others in
  bool guarded = false;     // sinks and rows that the caller protects take part

  template <class F>
  void tuning(F&& f) {
    f("alpha", alpha);
    f("beta", beta);
  }

  void fold(fold_head& head, head_state& state) const {
    const fold_rows rows = rows_to_fold(head, into_recent, guarded);
    if (rows.from.empty() || rows.to.empty()) return;
    const std::vector<neighbour> nearest = nearest_by_key(head, rows.from, rows.to);
    double sum = 0;
    for (const neighbour& n : nearest) sum += static_cast<double>(n.cosine);
    const auto mean = static_cast<float>(sum / static_cast<double>(nearest.size()));
    learn(state, mean);
    std::vector<float> weight(head.position.size(), self());  // [n] sum of the weights that a row stands for
    for (std::size_t i = 0; i < nearest.size(); ++i) {
      const auto [c, u] = nearest[i];
      if (!reaches(u, state)) continue;
      const float mine = weight_of(u);
      float& total = weight[static_cast<std::size_t>(c)];
      const float grown = total + counted(mine);
      mix(head.key(c), total / grown, head.key(rows.from[i]), mine / grown);
      mix(head.value(c), total / grown, head.value(rows.from[i]), mine / grown);
      total = grown;
      head.absorb(c, rows.from[i]);
    }
  }

  /// mean: of the similarities of those that leave.
  TERSEKV_HD void learn(head_state& state, float mean) const {
    state.tau = state.begun ? alpha * state.tau + beta * mean : mean;
    state.begun = true;
  }
  TERSEKV_HD bool reaches(float u, const head_state& state) const {
    constexpr float rounding = 1e-6f;  // of a cosine: equal similarities all reach their mean
    return u >= state.tau - rounding;
  }
  /// Of a survivor, and of what is folded into it; what the latter adds to the sum of weights.
  TERSEKV_HD float self() const { return rule == d2o_rule::paper ? std::exp(1.0f) : 1.0f; }
  TERSEKV_HD float weight_of(float u) const { return rule == d2o_rule::paper ? std::exp(u) : u; }
  TERSEKV_HD float counted(float weight) const { return rule == d2o_rule::paper ? weight : 1.0f; }

 private:
  /// a <- p a + q b
  static void mix(std::span<float> a, float p, std::span<const float> b, float q) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = p * a[i] + q * b[i];
  }
};

}  // namespace tersekv
