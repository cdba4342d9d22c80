// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/tova.hpp
//
// tova: let go of the tokens that the newest query looks at least, one set of rows for all heads of a layer.
//
// Paper     Oren et al., "Transformers are Multi-State RNNs", EMNLP 2024, arXiv:2401.06104
// Formula   s_j = mean over heads of softmax(q K^T / sqrt(d))_j, q the newest query
//           keep = top_rows(s)
// Shapes    s [n] f32     q [query_heads, d]     K [kv_heads, n, d]
// Differs   nothing known. Nothing is protected: even the newest row may leave
// Cost      no state; O(n) per step and query head
// Needs     last attention
// With      shared layers: attention is summed over the layers that read the slot
#pragma once
#include <span>
#include <string>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct tova {
  using role = tersekv::role::evict;
  using needs = tersekv::list<fact::last_attention>;
  static constexpr std::string_view name = "tova";
  static constexpr int columns = 0;
  static constexpr bool per_layer = true;

  int rows = 512;  // kept   [rows]
  trigger when = every_step;

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
  }

  TERSEKV_HD float score(const row_signals& rows, int j) const { return rows.last_attention[j]; }
  void score(const scored_head& head, std::span<float> out) const { score_each(*this, head, out); }
  TERSEKV_HD protection protects(row) const { return protection::none; }
  int budget() const { return rows; }
  void check() const {
    if (rows < 1) throw shape_error("tersekv::tova: rows " + std::to_string(rows) + ", must be >= 1");
  }
};

}  // namespace tersekv
