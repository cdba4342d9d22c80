// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/streaming_llm.hpp
//
// streaming_llm: keep the first tokens, which attract attention whatever they say, and the most recent ones.
//
// Paper     Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024, arXiv:2309.17453
// Formula   keep = { p < sinks } and the `recent` newest rows
// Shapes    no state
// Differs   keys stay where the text put them; the paper counts positions inside the cache, which is
//           cache_positions<streaming_llm>
// Cost      O(n) per trim
// Needs     nothing
// With      any codec: rows leave in order of position, sinks apart. A budget below sinks + recent shortens the recent
//           rows first
#pragma once
#include <span>
#include <string>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct streaming_llm {
  using role = tersekv::role::evict;
  static constexpr std::string_view name = "streaming_llm";
  static constexpr int columns = 0;
  static constexpr bool in_order = true;

  int sinks = 4;     // first tokens, always kept     [rows]
  int recent = 508;  // newest rows, always kept      [rows]
  trigger when = every_step;

  template <class F>
  void tuning(F&& f) {
    f("sinks", sinks);
    f("recent", recent);
  }

  TERSEKV_HD float score(const row_signals& rows, int j) const {  // only a budget above sinks + recent asks
    return static_cast<float>(rows.position[j] - rows.seen);
  }
  void score(const scored_head& head, std::span<float> out) const { score_each(*this, head, out); }
  TERSEKV_HD protection protects(row r) const {
    if (r.position < sinks) return protection::sink;
    return r.age < recent ? protection::recent : protection::none;
  }
  int budget() const { return sinks + recent; }
  void check() const {
    if (sinks < 0 || recent < 0 || budget() < 1)
      throw shape_error("tersekv::streaming_llm: sinks " + std::to_string(sinks) + ", recent " +
                        std::to_string(recent) + "; both are >= 0 and their sum is >= 1");
  }
};

}  // namespace tersekv
