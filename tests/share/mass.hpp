// SPDX-License-Identifier: Apache-2.0
// Which rows h2o must keep when it counts the attention of given layers on a slot, worked out in float64.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "support.hpp"

namespace test {

/// Positions of the `heavy` tokens that `layers` (readers of one slot) attended to most, and of the `recent` newest
/// ones, after all tokens of the stream were decoded one by one.
inline std::vector<int> heavy_hitters(const stream& s, const kv::layer_plan& plan, const std::vector<int>& layers,
                                      int head, int heavy, int recent) {
  std::vector<double> mass(static_cast<std::size_t>(s.tokens), 0.0);
  for (const int l : layers)
    for (int t = 0; t < s.tokens; ++t)
      for (int g = 0; g < s.shape.group(); ++g) {
        const int last = plan.sees_self(l) ? t : t - 1;
        std::vector<double> p;
        double sum = 0;
        for (int j = 0; j <= last; ++j) {
          double x = 0;
          for (int c = 0; c < s.shape.head_dim; ++c)
            x += static_cast<double>(s.query(l, t, head * s.shape.group() + g)[c]) *
                 static_cast<double>(s.key(plan.kv(l), j, head)[c]) * static_cast<double>(s.shape.scale);
          p.push_back(std::exp(x));
          sum += p.back();
        }
        for (std::size_t j = 0; j < p.size(); ++j) mass[j] += p[j] / sum / s.shape.group();
      }
  std::vector<int> order, kept;
  for (int t = 0; t < s.tokens - recent; ++t) order.push_back(t);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return mass[std::size_t(a)] > mass[std::size_t(b)]; });
  kept.assign(order.begin(), order.begin() + heavy);
  for (int t = s.tokens - recent; t < s.tokens; ++t) kept.push_back(t);
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace test
