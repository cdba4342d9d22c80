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
// Cost      no state; window * n * d per query head at the end of the prompt; the queries of chunked prompts in 16 bit
// Needs     query window
// With      a question that is excluded from observation: its rows are safe only as far as `window` reaches.
//           ada and pyramid: only the rows before the window are spread
#pragma once
#include <algorithm>
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
  void score(const scored_head& head, std::span<float> out) const {
    int before = head.rows();  // rows before the window, the only ones that are pooled
    while (before > 0 &&
           protects({head.position[at(before - 1)], head.seen - 1 - head.position[at(before - 1)]}) != protection::none)
      --before;
    const int reach = kernel / 2;
    for (int j = 0; j < before; ++j) {
      const auto near = head.window_attention.subspan(at(std::max(0, j - reach)),
                                                      at(std::min(before, j + reach + 1) - std::max(0, j - reach)));
      float sum = 0;
      for (const float mass : near) sum += mass;
      out[at(j)] =
          pool == pooling::mean ? sum / static_cast<float>(kernel) : *std::max_element(near.begin(), near.end());
    }
    std::copy(head.window_attention.begin() + before, head.window_attention.end(), out.begin() + before);
  }
  protection protects(row r) const { return r.age < window ? protection::recent : protection::none; }
  int budget() const { return rows; }
  void check() const {
    if (window < 1 || rows <= window || kernel < 1 || kernel % 2 == 0)
      throw shape_error("tersekv::snapkv: rows " + std::to_string(rows) + ", window " + std::to_string(window) +
                        ", kernel " + std::to_string(kernel) + "; window is >= 1, rows > window, kernel odd");
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
};

}  // namespace tersekv
