// SPDX-License-Identifier: Apache-2.0
// tersekv/merge/weighted_kv.hpp
//
// weighted_kv: the value of a leaving row goes to the next row that stays, weighed by attention; its key is dropped.
//
// Paper     Yuan et al., "WeightedKV: Attention Scores Weighted Key-Value Cache Merging for Large Language Models",
//           ICASSP 2025, arXiv:2503.01330
// Formula   a_j = attention received / queries that could see row j
//           v_c <- (a_c v_c + sum_j a_j v_j) / (a_c + sum_j a_j), c the next staying row after j; k_c is unchanged
// Shapes    v [kv_heads, n, dv]     mass, queries [kv_heads, n] f32
// Differs   query heads that share a KV head are averaged. A row that took others in carries the sum of their a, so
// that
//           what it holds is not forgotten by the next fold; from then on that sum is averaged over more queries, like
//           the attention of any row (the paper does not say). Which rows leave is the eviction policy's business
// Cost      8 bytes per row and KV head; O(dv) per leaving row
// Needs     attention mass; rows that leave; rows that can be rewritten
// With      a codec that packs groups: only rows of its window take others in. Sinks and protected rows are left alone
#pragma once
#include <string_view>

#include <tersekv/merge/fold_rows.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

struct weighted_kv_on_device;  // weighted_kv.cuh

struct weighted_kv {
  using role = tersekv::role::merge;
  using needs = tersekv::list<fact::attention_mass>;
  static constexpr std::string_view name = "weighted_kv";
  static constexpr int columns = 2;  // mass, queries
  static constexpr bool folds = true;
  using on_device = weighted_kv_on_device;
  struct head_state {};

  TERSEKV_HD void observe(float* row, const observation& o) const {
    row[0] += o.mass;
    row[1] += static_cast<float>(o.queries);
  }

  void fold(fold_head& head, head_state&) const {
    const fold_rows rows = rows_to_fold(head, true, false);
    auto to = rows.to.begin();
    for (const int e : rows.from) {
      while (to != rows.to.end() && *to < e) ++to;
      if (to == rows.to.end()) return;
      const int c = *to;
      const float part = take(head.state.data() + c * columns, head.state.data() + e * columns);
      if (!(part > 0)) continue;
      const std::span<float> v = head.value(c), x = head.value(e);
      for (std::size_t i = 0; i < v.size(); ++i) v[i] += part * (x[i] - v[i]);
      head.absorb(c, e);
    }
  }

  /// A staying row's columns take over a leaving row's; returns the latter's part of the value, 0 = none.
  TERSEKV_HD static float take(float* mine, const float* other) {
    mine[1] = mine[1] > 1.0f ? mine[1] : 1.0f;
    const float a = mine[0] / mine[1], b = other[0] / (other[1] > 1.0f ? other[1] : 1.0f);
    if (!(b > 0)) return 0;
    mine[0] += b * mine[1];
    return b / (a + b);
  }
};

}  // namespace tersekv
