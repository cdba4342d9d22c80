// SPDX-License-Identifier: Apache-2.0
// How is a prompt encoded when layers read rows that a higher layer writes? In passes, until nothing changes.
//
// Under lckv<2> all layers but the lowest and the highest read the rows of layer 6, which are not there yet when a
// prompt enters layer 1. So layers 1 to 6 are run again and again; each pass reads what the one before staged. Decoding
// needs one pass: a token does not read its own entry there.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include <tersekv/tersekv.hpp>

namespace kv = tersekv;
using numbers = std::vector<float>;

constexpr int layers = 8, heads = 2, dim = 16, width = heads * dim, tokens = 40;

struct layer {         // no more than what matters here: projections, attention, residual
  numbers q, k, v, o;  // [width, width]
};

numbers random_numbers(std::size_t n, float sigma) {
  static std::mt19937 engine(1);
  std::normal_distribution<float> draw(0, sigma);
  numbers out(n);
  for (float& x : out) x = draw(engine);
  return out;
}

numbers times(const numbers& x, const numbers& matrix) {  // [n, width] [width, width], rows of x brought to unit size
  numbers out(x.size(), 0.0f);
  for (std::size_t t = 0; t < x.size(); t += width) {
    float square = 1e-6f;
    for (std::size_t c = 0; c < width; ++c) square += x[t + c] * x[t + c] / width;
    for (std::size_t c = 0; c < width; ++c)
      for (std::size_t r = 0; r < width; ++r) out[t + r] += matrix[r * width + c] * x[t + c] / std::sqrt(square);
  }
  return out;
}

/// Runs n tokens, x [n, width] in and out, through an open step. Returns the number of passes over layers 1 to 6.
template <class Cache, class Step>
int forward(const std::vector<layer>& model, const Cache& cache, Step& step, numbers& x) {
  const int n = static_cast<int>(x.size()) / width;
  int passes = 0;
  for (const kv::layer_range range : cache.schedule(n)) {
    const numbers entering = x;
    for (bool again = true; again;) {
      x = entering;
      for (int l = range.first; l <= range.last; ++l) {
        const layer& w = model[static_cast<std::size_t>(l)];
        numbers q = times(x, w.q), attended(x.size());
        if (cache.owns(l)) {
          const numbers k = times(x, w.k), v = times(x, w.v);
          step.append(l, kv::view(k.data(), n, heads, dim), kv::view(v.data(), n, heads, dim));
        }
        step.attend(l, kv::view(q.data(), n, heads, dim), kv::view(attended.data(), n, heads, dim));
        const numbers add = times(attended, w.o);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += add[i];
      }
      again = range.passes > 1 && step.change(range.last) > 1e-6f;  // the writer is the last layer of its range
      passes += range.passes > 1;
    }
  }
  return passes;
}

int main() {
  std::vector<layer> model;
  for (int l = 0; l < layers; ++l) {
    numbers w[4];
    for (numbers& m : w) m = random_numbers(width * width, 0.12f);
    model.push_back({w[0], w[1], w[2], w[3]});
  }
  const numbers prompt = random_numbers(tokens * width, 1);
  auto cache = kv::make_cache({.layers = layers, .kv_heads = heads, .head_dim = dim}, kv::cpu{}, kv::lckv<2>{},
                              kv::dense<float>{});

  auto parallel = cache.open();
  numbers x = prompt;
  auto step = parallel.step(tokens);
  const int passes = forward(model, cache, step, x);
  step.commit();

  auto sequential = cache.open();  // the definition: token by token, one pass each
  float worst = 0, largest = 0;
  for (int t = 0; t < tokens; ++t) {
    numbers token(prompt.begin() + t * width, prompt.begin() + (t + 1) * width);
    auto one = sequential.step(1);
    forward(model, cache, one, token);
    one.commit();
    for (int c = 0; c < width; ++c) {
      const float want = token[static_cast<std::size_t>(c)];
      worst = std::max(worst, std::abs(x[static_cast<std::size_t>(t * width + c)] - want));
      largest = std::max(largest, std::abs(want));
    }
  }
  numbers next = random_numbers(width, 1), same = next;  // decoding goes on from either
  auto a = parallel.step(1), b = sequential.step(1);
  forward(model, cache, a, next), forward(model, cache, b, same);
  for (std::size_t c = 0; c < width; ++c) worst = std::max(worst, std::abs(next[c] - same[c]));

  std::printf("layer map %s: %d tokens, %d passes\n", cache.plan().text().c_str(), tokens, passes);
  std::printf("rows %zu of %d, largest difference to token-by-token %.1e of %.1f\n", parallel.report().rows_kept,
              tokens * layers * heads, static_cast<double>(worst), static_cast<double>(largest));
  const bool good = passes < tokens && worst < 1e-4f * largest && parallel.report().rows_kept == tokens * 3 * heads;
  std::puts(good ? "ok" : "the prompt is not what decoding says");
  return good ? 0 : 1;
}
