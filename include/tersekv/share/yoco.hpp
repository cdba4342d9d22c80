// SPDX-License-Identifier: Apache-2.0
// tersekv/share/yoco.hpp
//
// yoco: you only cache once: the lower half of the layers sees a window, the upper half reads one slot of all tokens.
//
// Paper     Sun et al., "You Only Cache Once: Decoder-Decoder Architectures for Language Models", NeurIPS 2024,
//           arXiv:2405.05254
// Formula   h = floor(L / 2); kv(i) = i with a window for i < h; kv(i) = h without one for i >= h
// Differs   the sliding-window variant; gated retention, the other lower half of the paper, keeps no rows. The engine
//           appends the shared rows at layer h (the paper projects them from the input of that layer). With an odd
//           number of layers the upper half is the larger one
// Cost      rows of all tokens once, and window rows of h layers
// Needs     a model that was trained this way
// With      a prompt may leave all tokens but the last at layer h: nothing above writes rows
#pragma once
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

struct yoco {
  using role = tersekv::role::share;
  static constexpr std::string_view name = "yoco";

  int window = 1024;  // newest positions that the lower half sees, the token's own included

  template <class F>
  void tuning(F&& f) {
    f("window", window);
  }

  layer_plan plan(int layers) const {
    const int half = layers / 2;
    std::vector<int> kv;
    std::vector<bool> windowed;
    for (int i = 0; i < layers; ++i) {
      kv.push_back(i < half ? i : half);
      windowed.push_back(i < half);
    }
    return layer_plan(std::move(kv), std::move(windowed), window);
  }
};

}  // namespace tersekv
