// SPDX-License-Identifier: Apache-2.0
// tersekv/transform/hadamard.hpp
//
// hadamard: turns rows by a Hadamard matrix, so that a few large channels spread over all of them.
//
// Paper     Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", NeurIPS 2024, arXiv:2404.00456
// Formula   M = H diag(signs); key, query, value: x <- M x; output, restore_key: x <- M^T x
//           H_2n = [H_n H_n; H_n -H_n] / sqrt(2), H_1 = 1; H H = I
// Shapes    x [dim] f32; H is block-diagonal, of the largest power of two that divides dim
// Differs   applied at run time to values too (the paper folds that part into the weights); no signs unless seed > 0
// Cost      log2(block) additions per number of a new row, of a query and of an output
// Needs     a head dimension that is a multiple of 8; keys that are rotated already, where a model rotates them
// With      through<hadamard, Codec>; does not remove a mean that all tokens share
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>

#include <tersekv/detail/bit_cast.hpp>
#include <tersekv/detail/planes.hpp>
#include <tersekv/number.hpp>

namespace tersekv {

/// A transform answers, in place: key(k) and query(q), which keep <k, q>; value(v) and output(o), which undo each
/// other; restore_key(k), which undoes key(k).
template <class T>
concept transform = requires(const T t, float* x, int dim) {
  t.check(dim);
  t.key(x, dim);
  t.query(x, dim);
  t.value(x, dim);
  t.output(x, dim);
  t.restore_key(x, dim);
};

struct hadamard {
  static constexpr std::string_view name = "hadamard";

  int seed = 0;  // of random signs, against rows that lie along a row of H; 0 = no signs

  template <class F>
  void tuning(F&& f) {
    f("seed", seed);
  }

  void check(int dim) const { detail::require_multiple("hadamard", dim, 8); }
  void key(float* x, int dim) const { forward(x, dim); }
  void query(float* x, int dim) const { forward(x, dim); }
  void value(float* x, int dim) const { forward(x, dim); }
  void output(float* x, int dim) const { backward(x, dim); }
  void restore_key(float* x, int dim) const { backward(x, dim); }

  /// The largest power of two that divides dim.
  TERSEKV_HD static constexpr int block(int dim) { return dim & -dim; }
  /// Signs of the channels 64 i .. 64 i + 63, 1 = negative: one number of splitmix64. Not for seed 0.
  TERSEKV_HD std::uint64_t signs(int i) const {
    const std::uint64_t state =
        static_cast<std::uint64_t>(seed) + (static_cast<std::uint64_t>(i) + 1) * 0x9e3779b97f4a7c15u;
    std::uint64_t bits = (state ^ state >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    return bits ^ bits >> 31;
  }

 private:
  void forward(float* x, int dim) const {
    if (seed != 0) flip(x, dim);
    turn(x, dim);
  }
  void backward(float* x, int dim) const {
    turn(x, dim);
    if (seed != 0) flip(x, dim);
  }

  static void turn(float* x, int dim) {
    const int n = block(dim);
    const float scale = 1.0f / std::sqrt(static_cast<float>(n));
    for (int b = 0; b < dim; b += 8) eight(x + b, scale);
    for (int half = 8; half < n; half *= 2)
      for (int b = 0; b < dim; b += 2 * half)
        for (int i = b; i < b + half; i += 8)
          for (int j = i; j < i + 8; ++j) {
            const float u = x[j], v = x[j + half];
            x[j] = u + v;
            x[j + half] = u - v;
          }
  }
  static void eight(float* x, float scale) {
    const float a0 = product(x[0], scale), a1 = product(x[1], scale);
    const float a2 = product(x[2], scale), a3 = product(x[3], scale);
    const float a4 = product(x[4], scale), a5 = product(x[5], scale);
    const float a6 = product(x[6], scale), a7 = product(x[7], scale);
    const float b0 = a0 + a4, b1 = a1 + a5, b2 = a2 + a6, b3 = a3 + a7;
    const float b4 = a0 - a4, b5 = a1 - a5, b6 = a2 - a6, b7 = a3 - a7;
    const float c0 = b0 + b2, c1 = b1 + b3, c2 = b0 - b2, c3 = b1 - b3;
    const float c4 = b4 + b6, c5 = b5 + b7, c6 = b4 - b6, c7 = b5 - b7;
    x[0] = c0 + c1, x[1] = c0 - c1, x[2] = c2 + c3, x[3] = c2 - c3;
    x[4] = c4 + c5, x[5] = c4 - c5, x[6] = c6 + c7, x[7] = c6 - c7;
  }

  /// x <- diag(signs) x
  void flip(float* x, int dim) const {
    for (int b = 0; b < dim; b += 64) {
      const std::uint64_t bits = signs(b / 64);
      const int n = dim - b < 64 ? dim - b : 64;
      for (int i = 0; i < n; ++i) {
        const auto sign = static_cast<std::uint32_t>(bits >> i) << 31;
        x[b + i] = detail::bit_cast<float>(detail::bit_cast<std::uint32_t>(x[b + i]) ^ sign);
      }
    }
  }
};

}  // namespace tersekv
