// SPDX-License-Identifier: Apache-2.0
// tersekv/budget/pyramid.hpp
//
// pyramid: early slots keep more rows, late ones fewer, falling by even steps.
//
// Paper     Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling",
//           arXiv:2406.02069
// Formula   b = rows - W;  min = floor(b / beta);  max = 2 b - min, at most T - W;  min = 2 b - max
//           slot l of L keeps W + max - l (max - min) / (L - 1) rows per head; below T = 2 b all keep `rows`
// Shapes    one number per slot; T tokens seen, W protected rows
// Differs   the steps are rounded by largest remainder, so that the slots together keep L * rows; the paper's whole
//           steps (paper = true) keep a few per cent more. W is the largest number of protected rows that a head of the
//           slot holds, whatever protects them; where there is none, min is at least 1
// Cost      O(L) per trim
// Needs     an eviction policy
// With      snapkv, as in the paper. While decoding, T grows: where T - W was the limit, the first slots' shares grow
//           and the last ones' shrink
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct pyramid {
  using role = tersekv::role::budget;
  static constexpr std::string_view name = "pyramid";
  static constexpr bool needs_scores = false;

  int beta = 20;       // the last slot keeps 1 / beta of the mean, window apart
  bool paper = false;  // the paper's whole steps, which do not conserve the total

  template <class F>
  void tuning(F&& f) {
    f("beta", beta);
    f("paper", paper);
  }

  void allocate(const budget_request& request, std::span<int> rows) const {
    std::fill(rows.begin(), rows.end(), rows_per_head(request.counts()));
  }
  TERSEKV_HD int rows_per_head(const slot_rows& s) const {
    int window = 0;
    for (int h = 0; h < s.heads; ++h) window = s.guarded[h] > window ? s.guarded[h] : window;
    return rows_of_slot(s.rows, window, s.seen, s.slot, s.slots);
  }
  /// Rows per head of one slot. mean: rows per head over all slots, `window` protected ones included.
  TERSEKV_HD int rows_of_slot(int mean, int window, int seen, int slot, int slots) const {
    const std::int64_t b = mean - window, steps = slots - 1;
    if (b < 1 || steps < 1 || seen < mean || seen < 2 * b) return mean;
    std::int64_t least = window == 0 && b < beta ? 1 : b / beta, most = 2 * b - least;
    if (most > seen - window) most = seen - window, least = 2 * b - most;
    if (paper) return static_cast<int>(most - slot * ((most - least) / steps) + window);
    // slot l deserves (most * steps - l * fall) / steps rows; what rounding down leaves goes to the largest remainders,
    // among equals to the first slot
    const std::int64_t fall = most - least;
    const auto deserved = [&](std::int64_t l) { return most * steps - l * fall; };
    std::int64_t left = 0, ahead = 0;
    for (std::int64_t l = 0; l <= steps; ++l) {
      left += deserved(l) % steps;
      ahead +=
          deserved(l) % steps > deserved(slot) % steps || (l < slot && deserved(l) % steps == deserved(slot) % steps);
    }
    return static_cast<int>(deserved(slot) / steps + (ahead < left / steps ? 1 : 0) + window);
  }
  void check() const {
    if (beta < 1) throw shape_error("tersekv::pyramid: beta " + std::to_string(beta) + ", must be >= 1");
  }
};

}  // namespace tersekv
