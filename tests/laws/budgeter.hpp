// SPDX-License-Identifier: Apache-2.0
// What every budget promises: the rows of all slots and heads together are those that the eviction policy asks for, no
// matter in which order heads come or in which unit scores are given.
#pragma once
#include "evictor.hpp"

#include <numeric>

namespace laws {

namespace detail {

/// An eviction policy whose scores are its only column.
struct scored_rows {
  using role = tersekv::role::evict;
  static constexpr int columns = 1;
  int rows = 12, recent = 3;
  float factor = 1;
  kv::trigger when = kv::every_step;
  void score(const kv::scored_head& head, std::span<float> out) const {
    for (std::size_t j = 0; j < out.size(); ++j) out[j] = factor * head.state[j];
  }
  kv::protection protects(kv::row r) const { return r.age < recent ? kv::protection::recent : kv::protection::none; }
  int budget() const { return rows; }
};

}  // namespace detail

/// among_slots: rows move between slots, so that a late slot may give up rows before it holds `rows` of them.
template <class B>
void budgeter(const B& budget, bool among_slots) {
  static_assert(kv::budgeter<B>);
  using namespace detail;
  for (const int heads : {1, 2, 5})
    for (const int slots : {1, 2, 7})
      for (const int n : {0, 1, 11, 12, 13, 40, 300})
        for (const int recent : {0, 3, 12, 15}) {
          CAPTURE(heads, slots, n, recent);
          const scored_rows policy{.recent = recent};
          std::size_t total = 0;
          for (int slot = 0; slot < slots; ++slot) {
            kv::trim_context context;
            auto all = random_heads(policy, heads, n, static_cast<unsigned>(n), context);
            for (std::size_t h = 0; h < all.size(); ++h)  // heads of different temper
              for (float& x : all[h].state) x *= static_cast<float>(h + 1 + static_cast<std::size_t>(slot));
            context.slot = slot, context.slots = slots;
            const auto decide = [&](const scored_rows& p, std::vector<kv::trim_head> x) {
              kv::decide(p, budget, context, std::span<kv::trim_head>(x), true);
              return x;
            };
            const auto plain = decide(policy, all);
            for (const kv::trim_head& head : plain) {
              total += kept(head).size();
              CHECK((n == 0 || !kept(head).empty()));
              if ((among_slots ? context.seen : n) <= policy.rows)
                CHECK(kept(head).size() == static_cast<std::size_t>(n));
              for (std::size_t j = 0; j < head.keep.size(); ++j)
                if (context.seen - 1 - head.position[j] < std::min(recent, 1)) CHECK(head.keep[j]);
            }
            auto turned = all;
            std::rotate(turned.begin(), turned.begin() + 1, turned.end());
            turned = decide(policy, turned);
            for (std::size_t h = 0; h < all.size(); ++h) CHECK(turned[h].keep == plain[(h + 1) % all.size()].keep);
            const auto same = decide({.recent = recent, .factor = 4}, all);
            for (std::size_t h = 0; h < all.size(); ++h) CHECK(same[h].keep == plain[h].keep);
          }
          const auto allowed = static_cast<std::size_t>(slots * heads * std::min(n, policy.rows));
          CHECK(total <= allowed);
          if (n >= 40) CHECK(total == allowed);
        }
}

}  // namespace laws
