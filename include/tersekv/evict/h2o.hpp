// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/h2o.hpp
//
// h2o: keep the tokens that have received most attention so far, and the most recent ones.
//
// Paper     Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
//           NeurIPS 2023, arXiv:2306.14048
// Formula   s_j <- s_j + sum_q softmax(q K^T / sqrt(d))_j for every kept row j
//           keep = top_heavy(s) and the `recent` newest rows
// Shapes    s [kv_heads, n] f32     q [query_heads, d]     K [kv_heads, n, d]
// Differs   query heads that share a KV head are averaged; the paper has one query head per KV head
// Cost      4 bytes per row and KV head; O(n) per step; one selection per trim
// Needs     attention mass
// With      shared layers: mass is summed over the layers that read the slot
#pragma once
#include <span>
#include <string>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct h2o {
  using role = tersekv::role::evict;
  using needs = tersekv::list<fact::attention_mass>;
  using provides = tersekv::list<fact::comparable_scores>;
  static constexpr std::string_view name = "h2o";
  static constexpr int columns = 1;  // s

  int heavy = 256;   // rows kept for their score   [rows]
  int recent = 256;  // newest rows, always kept    [rows]
  trigger when = every_step;

  template <class F>
  void tuning(F&& f) {
    f("heavy", heavy);
    f("recent", recent);
  }

  TERSEKV_HD void observe(float* s, const observation& o) const { s[0] += o.mass; }
  TERSEKV_HD float score(const row_signals& rows, int j) const { return rows.state[j]; }
  void score(const scored_head& head, std::span<float> out) const { score_each(*this, head, out); }
  TERSEKV_HD protection protects(row r) const { return r.age < recent ? protection::recent : protection::none; }
  int budget() const { return heavy + recent; }
  void check() const {
    if (heavy < 0 || recent < 0 || budget() < 1)
      throw shape_error("tersekv::h2o: heavy " + std::to_string(heavy) + ", recent " + std::to_string(recent) +
                        "; both are >= 0 and their sum is >= 1");
  }
};

}  // namespace tersekv
