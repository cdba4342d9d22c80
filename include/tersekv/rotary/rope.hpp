// SPDX-License-Identifier: Apache-2.0
// tersekv/rotary/rope.hpp
//
// rope: rotary position embedding with fixed frequencies, as the model applied it to queries and keys.
//
// Paper     Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv:2104.09864
// Formula   pair i of x turns by positions * base^(-2i / dim); pairs are (2i, 2i+1) or (i, i + dim/2)
// Differs   frequencies that depend on the length (dynamic NTK) cannot be turned anew and are not offered
// Needs     an even head_dim
// With      cache_positions, which turns stored keys from their position to their index in the cache
#pragma once
#include <cmath>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct rope {
  using role = tersekv::role::rotary;
  using provides = tersekv::list<fact::rotation>;
  static constexpr std::string_view name = "rope";

  float base = 10000;
  bool interleaved = true;  // pairs (2i, 2i+1) as in llama2.c; false: (i, i + dim/2) as in Hugging Face models

  template <class F>
  void tuning(F&& f) {
    f("base", base);
  }

  /// turns[dim] = cosine and sine of every pair's angle, pair by pair. Formed in double: positions grow large.
  void angles(int positions, int dim, float* turns) const {
    for (int i = 0; i < dim / 2; ++i) {
      const double angle = positions * std::pow(static_cast<double>(base), -2.0 * i / dim);
      turns[2 * i] = static_cast<float>(std::cos(angle));
      turns[2 * i + 1] = static_cast<float>(std::sin(angle));
    }
  }
  /// x[dim] <- R x, with the angles above.
  void turn(float* x, int dim, const float* turns) const {
    const int pairs = dim / 2;
    for (int i = 0; i < pairs; ++i) {
      float& a = x[interleaved ? 2 * i : i];
      float& b = x[interleaved ? 2 * i + 1 : i + pairs];
      const float c = turns[2 * i], s = turns[2 * i + 1], turned = a * c - b * s;
      b = a * s + b * c;
      a = turned;
    }
  }
};

}  // namespace tersekv
