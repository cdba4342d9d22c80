// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/knorm.hpp
//
// knorm: let go of the keys with the largest norm: small keys attract attention.
//
// Paper     Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", EMNLP 2024,
//           arXiv:2406.11430
// Formula   s_j = -||k_j||; keep = top(s) and the `recent` newest rows, `rows` in all
// Shapes    s [kv_heads, n] f32     k [kv_heads, n, d]
// Differs   every layer is trimmed; the paper leaves the first two alone. Rows are a number, not a share of the prompt
// Cost      4 bytes per row and KV head; O(d) per new row; O(n) per trim
// Needs     nothing
// With      models that normalise their keys: the norms then say little
#pragma once
#include <cmath>
#include <span>
#include <string>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct knorm {
  using role = tersekv::role::evict;
  static constexpr std::string_view name = "knorm";
  static constexpr int columns = 1;  // s

  int rows = 512;   // kept, the recent ones included   [rows]
  int recent = 32;  // newest rows, always kept         [rows]
  trigger when = every_step;

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
    f("recent", recent);
  }

  TERSEKV_HD void insert(float* s, const auto& key, int key_dim) const {
    double squares = 0;  // a large key must not overflow
    for (int c = 0; c < key_dim; ++c) squares += static_cast<double>(key[c]) * static_cast<double>(key[c]);
    s[0] = static_cast<float>(-std::sqrt(squares));
  }
  TERSEKV_HD float score(const row_signals& rows, int j) const { return rows.state[j]; }
  void score(const scored_head& head, std::span<float> out) const { score_each(*this, head, out); }
  TERSEKV_HD protection protects(row r) const { return r.age < recent ? protection::recent : protection::none; }
  int budget() const { return rows; }
  void check() const {
    if (rows < 1 || recent < 0 || recent > rows)
      throw shape_error("tersekv::knorm: rows " + std::to_string(rows) + ", recent " + std::to_string(recent) +
                        "; rows is >= 1 and recent between 0 and rows");
  }
};

}  // namespace tersekv
