// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/random.hpp
//
// random_eviction: keep rows drawn at random, and the most recent ones: what every other method has to beat.
//
// Formula   s_j = hash(seed, slot, head, position_j); keep = top(s) and the `recent` newest rows, `rows` in all
// Shapes    s [kv_heads, n] f32
// Differs   a baseline, not a paper's method
// Cost      no state; O(n) per trim
// Needs     nothing
// With      any backend: the same seed keeps the same rows, because a row's draw depends on nothing but its place
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct random_eviction {
  using role = tersekv::role::evict;
  using provides = tersekv::list<fact::comparable_scores>;
  static constexpr std::string_view name = "random";
  static constexpr int columns = 0;

  int rows = 512;   // kept, the recent ones included   [rows]
  int recent = 32;  // newest rows, always kept         [rows]
  int seed = 1;
  trigger when = every_step;

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
    f("recent", recent);
    f("seed", seed);
  }

  TERSEKV_HD float score(const row_signals& rows, int j) const {
    const std::uint64_t place = mixed(mixed(mixed(number(seed)) + number(rows.slot)) + number(rows.head));
    // 24 bits: every draw is a float in [0, 1)
    return static_cast<float>(mixed(place + number(rows.position[j])) >> 40) * 0x1p-24f;
  }
  void score(const scored_head& head, std::span<float> out) const { score_each(*this, head, out); }
  TERSEKV_HD protection protects(row r) const { return r.age < recent ? protection::recent : protection::none; }
  int budget() const { return rows; }
  void check() const {
    if (rows < 1 || recent < 0 || recent > rows)
      throw shape_error("tersekv::random_eviction: rows " + std::to_string(rows) + ", recent " +
                        std::to_string(recent) + "; rows is >= 1 and recent between 0 and rows");
  }

 private:
  TERSEKV_HD static std::uint64_t number(int x) { return static_cast<std::uint32_t>(x); }
  /// The finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
  TERSEKV_HD static std::uint64_t mixed(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
};

}  // namespace tersekv
