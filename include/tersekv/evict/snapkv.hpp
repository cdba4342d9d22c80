// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/snapkv.hpp
//
// snapkv: at the end of the prompt, keep what its last tokens look at, with the neighbours, and these tokens.
//
// Paper     Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", NeurIPS 2024, arXiv:2404.14469
// Formula   s_j = pool_j( sum_q softmax(q K^T / sqrt(d))_j ), q over the `window` newest queries, j before the window
//           keep = top_(rows - window)(s) and the `window` newest rows
// Shapes    s [kv_heads, n] f32     q [window, query_heads, d]     K [kv_heads, n, d]
// Differs   query heads that share a KV head are averaged before pooling; the paper keeps rows per query head.
//           Neighbours are neighbours in the cache, also where rows between them have left
// Cost      no state; one pass over the logits of the window's queries, which the last block of the prompt has anyway;
//           where the window begins in an earlier chunk, window * n * d per query head, and its queries in 16 bit
// Needs     query window
// With      a question that is excluded from observation: its rows are safe only as far as `window` reaches.
//           ada and pyramid: only the rows before the window are spread
#pragma once
#include <span>
#include <string>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct snapkv {
  using role = tersekv::role::evict;
  using needs = tersekv::list<fact::query_window>;
  using provides = tersekv::list<fact::comparable_scores>;
  enum class pooling : unsigned char { mean, max };
  static constexpr std::string_view name = "snapkv";
  static constexpr int columns = 0;

  int rows = 2048;               // kept, the window included                      [rows]
  int window = 32;               // newest rows, always kept; their queries look   [rows]
  int kernel = 5;                // neighbours that share a score, odd             [rows]
  pooling pool = pooling::mean;  // beyond the edges: zeros for mean, nothing for max
  trigger when = at_prompt_end;

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
    f("window", window);
    f("kernel", kernel);
  }

  int queries() const { return window; }
  TERSEKV_HD float score(const row_signals& rows, int j) const {
    const float* mass = rows.window_attention;
    if (in_window(rows, j)) return mass[j];
    const int reach = kernel / 2, first = j > reach ? j - reach : 0;
    int last = j + reach < rows.n ? j + reach : rows.n - 1;  // only rows before the window are pooled
    while (in_window(rows, last)) --last;
    float sum = 0, most = mass[first];
    for (int i = first; i <= last; ++i) {
      sum += mass[i];
      most = mass[i] > most ? mass[i] : most;
    }
    return pool == pooling::mean ? sum / static_cast<float>(kernel) : most;
  }
  void score(const scored_head& head, std::span<float> out) const { score_each(*this, head, out); }
  TERSEKV_HD protection protects(row r) const { return r.age < window ? protection::recent : protection::none; }
  int budget() const { return rows; }
  void check() const {
    if (window < 1 || rows <= window || kernel < 1 || kernel % 2 == 0)
      throw shape_error("tersekv::snapkv: rows " + std::to_string(rows) + ", window " + std::to_string(window) +
                        ", kernel " + std::to_string(kernel) + "; window is >= 1, rows > window, kernel odd");
  }

 private:
  TERSEKV_HD bool in_window(const row_signals& rows, int j) const {
    return protects({rows.position[j], rows.seen - 1 - rows.position[j]}) != protection::none;
  }
};

}  // namespace tersekv
