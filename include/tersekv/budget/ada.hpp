// SPDX-License-Identifier: Apache-2.0
// tersekv/budget/ada.hpp
//
// ada: the heads of a slot share their rows: each is sure of a part, the rest goes to the best scores of all heads.
//
// Paper     Feng et al., "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM
//           Inference", arXiv:2407.11550
// Formula   b_h = rows - protected rows of head h;  head h is sure of its floor(floor * b_h) best rows
//           the other sum_h b_h - floor(floor * b_h) rows are the best of all heads
// Shapes    one number per head
// Differs   the paper mixes the joint shares with the uniform ones and rounds per head, which loses rows; here the
//           total is heads * rows exactly, as far as there are rows. A head without protected rows is sure of one row
// Cost      O(rows of the slot) per trim
// Needs     comparable scores
// With      snapkv, as in the paper. Heads of one slot share among themselves, slots do not
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

struct ada_on_device;  // ada.cuh

struct ada {
  using role = tersekv::role::budget;
  static constexpr std::string_view name = "ada";
  static constexpr bool needs_scores = true;
  using on_device = ada_on_device;

  float floor = 0.2f;  // part of its rows that a head is sure of, 0 to 1

  template <class F>
  void tuning(F&& f) {
    f("floor", floor);
  }

  void allocate(const budget_request& request, std::span<int> rows) const {
    std::vector<candidate> all, own;
    std::ptrdiff_t room = 0;
    for (std::size_t h = 0; h < rows.size(); ++h) {
      const auto guard = request.guards[h];
      const auto score = request.scores[h];
      const auto forced = static_cast<int>(std::count(guard.begin(), guard.end(), protection::caller));
      const int safe = std::max(forced, std::min(request.guarded[h], request.rows));  // protected rows that stay
      const int b = std::max(0, request.rows - safe);
      own.clear();
      for (std::size_t j = 0; j < score.size(); ++j)
        if (guard[j] == protection::none)
          own.push_back({std::isnan(score[j]) ? lowest : score[j], std::isnan(score[j]), score.size() - j, h});
      const int least = safe == 0 ? std::min(1, b) : 0;  // no head is left empty
      const auto sure = std::min(own.size(), static_cast<std::size_t>(std::max(secured(b), least)));
      std::nth_element(own.begin(), own.begin() + static_cast<std::ptrdiff_t>(sure), own.end(), better);
      all.insert(all.end(), own.begin() + static_cast<std::ptrdiff_t>(sure), own.end());
      rows[h] = safe + static_cast<int>(sure);
      room += b - static_cast<int>(sure);
    }
    room = std::min(room, static_cast<std::ptrdiff_t>(all.size()));
    std::nth_element(all.begin(), all.begin() + room, all.end(), better);
    for (std::ptrdiff_t i = 0; i < room; ++i) ++rows[all[static_cast<std::size_t>(i)].head];
  }
  void check() const {
    if (!(floor >= 0 && floor <= 1))
      throw shape_error("tersekv::ada: floor " + std::to_string(floor) + ", must be between 0 and 1");
  }

  /// floor * b, rounded down; 0.7f * 10 counts as 7.
  TERSEKV_HD int secured(int b) const {
    const auto part = static_cast<int>(static_cast<double>(floor) * b * (1 + 1e-6));
    return part < b ? part : b;
  }

 private:
  struct candidate {
    float score;
    bool bad;         // NaN
    std::size_t age;  // rows of its head from here to the newest
    std::size_t head;
  };
  static constexpr float lowest = 0;  // of a NaN: `bad` decides
  /// The order in which rows are selected within a head, too.
  static bool better(const candidate& a, const candidate& b) {
    if (a.bad != b.bad) return b.bad;
    if (a.score != b.score) return a.score > b.score;
    if (a.age != b.age) return a.age < b.age;
    return a.head < b.head;
  }
};

}  // namespace tersekv
