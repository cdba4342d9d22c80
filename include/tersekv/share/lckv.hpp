// SPDX-License-Identifier: Apache-2.0
// tersekv/share/lckv.hpp
//
// lckv<w>: layer-condensed cache: all layers read the rows of one upper layer, but for w layers with rows of their own.
//
// Paper     Wu and Tu, "Layer-Condensed KV Cache for Efficient Inference of Large Language Models", ACL 2024,
//           arXiv:2405.10637
// Formula   kv(i) = i for the w / 2 lowest and the w / 2 highest layers, kv(i) = t = L - 1 - w / 2 for all others
//           a token at a layer below t sees the entries of earlier tokens in slot t; token 0 sees none: output 0
//           prompt: the layers up to t are run `passes` times over all new tokens, pass k reading what pass k - 1
//           staged (zeros at first); after k passes the first k tokens are exact (layer_plan::schedule)
// Differs   layer t reads the keys of its own pass, as in the authors' newer code; the first code read those of the
//           pass before. Both have the same fixed point. `everywhere` is for checkpoints of the first code
// Cost      (w + 1) / L of the bytes; a prompt costs about `passes` times as much
// Needs     a model that was trained this way
// With      every policy: rows are scored, folded and packed at commit, after the last pass. For exact prompts, commit
//           them in chunks of at most `passes` tokens; drafts of n tokens are verified in n passes
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

template <int W>
struct lckv {
  static_assert(
      W >= 0 && W % 2 == 0,
      "tersekv::lckv: the number of warm-up layers is even: one half below, one half above the condensed layers");
  using role = tersekv::role::share;
  static constexpr std::string_view name = "lckv";
  static constexpr std::array<int, 1> structure{W};

  int passes = 9;  // over a prompt, at most: 7 + 2 of the paper's training
  masked_diagonal diagonal = masked_diagonal::upward_only;

  template <class F>
  void tuning(F&& f) {
    f("passes", passes);
  }

  layer_plan plan(int layers) const {
    if (layers < W + 1)
      throw shape_error("tersekv::lckv<" + std::to_string(W) + ">: " + std::to_string(layers) + " layers; " +
                        std::to_string(W) + " warm-up layers and one to condense need at least " +
                        std::to_string(W + 1));
    const int target = layers - 1 - W / 2;
    std::vector<int> kv;
    for (int i = 0; i < layers; ++i) kv.push_back(i < W / 2 || i > target ? i : target);
    return layer_plan(std::move(kv), {}, 0, diagonal, passes);
  }
};

}  // namespace tersekv
