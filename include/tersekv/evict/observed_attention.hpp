// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/observed_attention.hpp
//
// observed_attention: keep the tokens with the highest attention, averaged over the queries that could see them.
//
// Paper     none; the "ObservedAttention" baseline of github.com/NVIDIA/kvpress, after H2O, arXiv:2306.14048
// Formula   keep = top(sum_q A_qj / number of queries that saw j) and the `recent` newest rows
// Shapes    state [kv_heads, n, 2] f32: attention received, queries seen
// Differs   kvpress compresses once after the prompt; this goes on while decoding unless `when` says otherwise
// Cost      8 bytes per row and KV head; O(n) per step; one selection per trim
// Needs     attention mass
// With      h2o sums instead, which favours old tokens because more queries saw them
#pragma once
#include <span>
#include <string>
#include <string_view>

#include <tersekv/error.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

struct observed_attention {
  using role = tersekv::role::evict;
  using needs = tersekv::list<fact::attention_mass>;
  using provides = tersekv::list<fact::comparable_scores>;
  static constexpr std::string_view name = "observed_attention";
  static constexpr int columns = 2;  // attention received, queries seen

  int rows = 512;   // kept in all                 [rows]
  int recent = 32;  // newest rows, always kept    [rows]
  trigger when = every_step;

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
    f("recent", recent);
  }
  void check() const {
    if (rows < 1 || recent < 0 || recent > rows)
      throw shape_error("tersekv::observed_attention: rows " + std::to_string(rows) + ", recent " +
                        std::to_string(recent) + "; rows >= 1 and 0 <= recent <= rows");
  }

  TERSEKV_HD void observe(float* state, const observation& o) const {
    state[0] += o.mass;
    state[1] += static_cast<float>(o.queries);
  }
  TERSEKV_HD float score(const row_signals& rows, int j) const {
    const float* state = rows.state + j * columns;
    return state[1] > 0 ? state[0] / state[1] : 0.0f;
  }
  void score(const scored_head& head, std::span<float> out) const { score_each(*this, head, out); }
  TERSEKV_HD protection protects(row r) const { return r.age < recent ? protection::recent : protection::none; }
  int budget() const { return rows; }
};

}  // namespace tersekv
