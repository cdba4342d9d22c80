// SPDX-License-Identifier: Apache-2.0
// A random transformer, small enough to compute anything with, and two ways to run it: through a cache, and as the
// plain recurrence of "which entries may token n read", written down without any of the library.
#pragma once
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

#include "support.hpp"

namespace test {

using numbers = std::vector<double>;

struct tiny_transformer {
  struct layer_weights {
    numbers q, k, v, o, up, down;  // [out, in]
  };
  kv::model_shape shape;
  int width;  // of the hidden state
  std::vector<layer_weights> layer;

  /// The gain is that of a TinyLlama-shaped model: 0.02 at width 2048.
  explicit tiny_transformer(int layers, unsigned seed = 1)
      : shape(kv::model_shape{.layers = layers, .query_heads = 4, .kv_heads = 2, .head_dim = 16}.checked()), width(64) {
    const float sigma = 0.02f * std::sqrt(2048.0f / static_cast<float>(width));
    auto matrix = [&, next = seed * 100](int out, int in) mutable {
      const std::vector<float> x = normal(static_cast<std::size_t>(out * in), next++, sigma);
      return numbers(x.begin(), x.end());
    };
    for (int l = 0; l < layers; ++l) {
      layer_weights w;
      w.q = matrix(query_width(), width), w.k = matrix(key_width(), width), w.v = matrix(key_width(), width);
      w.o = matrix(width, query_width()), w.up = matrix(width, width), w.down = matrix(width, width);
      layer.push_back(std::move(w));
    }
  }
  int query_width() const { return shape.query_heads * shape.head_dim; }
  int key_width() const { return shape.kv_heads * shape.head_dim; }

  /// Hidden states that enter layer 0.
  std::vector<numbers> prompt(int tokens, unsigned seed = 77) const {
    std::vector<numbers> out;
    for (int t = 0; t < tokens; ++t) {
      const std::vector<float> x = normal(static_cast<std::size_t>(width), seed + static_cast<unsigned>(t));
      out.emplace_back(x.begin(), x.end());
    }
    return out;
  }

  static numbers times(const numbers& matrix, const numbers& x) {
    numbers out(matrix.size() / x.size(), 0.0);
    for (std::size_t r = 0; r < out.size(); ++r)
      for (std::size_t c = 0; c < x.size(); ++c) out[r] += matrix[r * x.size() + c] * x[c];
    return out;
  }
  static numbers normed(const numbers& x) {
    double square = 0;
    for (const double v : x) square += v * v;
    numbers out = x;
    for (double& v : out) v /= std::sqrt(square / static_cast<double>(x.size()) + 1e-6);
    return out;
  }
  /// Rotates every head of x by the token's position.
  numbers rotated(numbers x, int position) const {
    const int half = shape.head_dim / 2;
    for (std::size_t head = 0; head < x.size(); head += static_cast<std::size_t>(shape.head_dim))
      for (int i = 0; i < half; ++i) {
        const double angle = position * std::pow(10000.0, -static_cast<double>(i) / half);
        double& a = x[head + static_cast<std::size_t>(i)];
        double& b = x[head + static_cast<std::size_t>(i + half)];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    return x;
  }
  numbers query(int l, const numbers& x, int position) const {
    return rotated(times(layer[std::size_t(l)].q, normed(x)), position);
  }
  numbers key(int l, const numbers& x, int position) const {
    return rotated(times(layer[std::size_t(l)].k, normed(x)), position);
  }
  numbers value(int l, const numbers& x) const { return times(layer[std::size_t(l)].v, normed(x)); }
  /// The rest of a layer, given what attention returned.
  void finish(int l, numbers& x, const numbers& attended) const {
    const layer_weights& w = layer[std::size_t(l)];
    const numbers o = times(w.o, attended);
    for (std::size_t c = 0; c < x.size(); ++c) x[c] += o[c];
    numbers up = times(w.up, normed(x));
    for (double& u : up) u = u / (1 + std::exp(-u));
    const numbers down = times(w.down, up);
    for (std::size_t c = 0; c < x.size(); ++c) x[c] += down[c];
  }
};

// -------------------------------------------------------------------------------------------------- through a cache
/// What a run through a cache leaves: the last hidden states, and of every layer the last attention output and rows.
struct cached_run {
  std::vector<numbers> hidden;                   // [tokens][width]
  std::vector<std::vector<float>> attended;      // [layers][tokens, query_heads, head_dim]
  std::vector<std::vector<float>> keys, values;  // [layers][tokens, kv_heads, head_dim], of owners
  int passes = 0;                                // over the ranges that are repeated
};

inline std::vector<float> packed(const std::vector<numbers>& rows) {
  std::vector<float> out;
  for (const numbers& row : rows)
    for (const double x : row) out.push_back(static_cast<float>(x));
  return out;
}

/// Runs `hidden` (tokens first, first + 1, ...) through an open step, by the cache's schedule. A repeated range ends
/// when enough(pass) says so, called after pass 1, 2, ...; without it, when the schedule says so.
template <class Cache, class Step>
cached_run run_cached(const tiny_transformer& m, const Cache& cache, Step& step, std::vector<numbers> hidden, int first,
                      const std::function<bool(int)>& enough = {}) {
  const int n = static_cast<int>(hidden.size());
  const auto layers = static_cast<std::size_t>(m.shape.layers);
  cached_run run;
  run.attended.resize(layers), run.keys.resize(layers), run.values.resize(layers);
  for (const kv::layer_range range : cache.schedule(n)) {
    const std::vector<numbers> entering = hidden;
    bool repeated = false;
    for (int l = range.first; l <= range.last; ++l) repeated = repeated || cache.plan().reads_upward(l);
    for (int pass = 1;; ++pass) {
      hidden = entering;
      for (int l = range.first; l <= range.last; ++l) {
        std::vector<numbers> q;
        const auto u = static_cast<std::size_t>(l);
        for (int t = 0; t < n; ++t) q.push_back(m.query(l, hidden[std::size_t(t)], first + t));
        if (cache.owns(l)) {
          std::vector<numbers> k, v;
          for (int t = 0; t < n; ++t)
            k.push_back(m.key(l, hidden[std::size_t(t)], first + t)), v.push_back(m.value(l, hidden[std::size_t(t)]));
          run.keys[u] = packed(k), run.values[u] = packed(v);
          step.append(l, kv::view(run.keys[u].data(), n, m.shape.kv_heads, m.shape.head_dim),
                      kv::view(run.values[u].data(), n, m.shape.kv_heads, m.shape.head_dim));
        }
        std::vector<float> queries = packed(q);
        run.attended[u].assign(queries.size(), -1.0f);
        step.attend(l, kv::view(queries.data(), n, m.shape.query_heads, m.shape.head_dim),
                    kv::view(run.attended[u].data(), n, m.shape.query_heads, m.shape.head_dim));
        for (int t = 0; t < n; ++t) {
          const float* a = run.attended[u].data() + t * m.query_width();
          m.finish(l, hidden[std::size_t(t)], numbers(a, a + m.query_width()));
        }
      }
      if (repeated) run.passes = pass;
      if (!repeated || (enough ? enough(pass) : pass == range.passes)) break;
    }
  }
  run.hidden = std::move(hidden);
  return run;
}

/// The same in a step of its own, committed.
template <class Cache, class Sequence>
cached_run feed_model(const tiny_transformer& m, const Cache& cache, Sequence& sequence,
                      const std::vector<numbers>& hidden, const std::function<bool(int)>& enough = {},
                      kv::step_options options = {}) {
  auto step = sequence.step(static_cast<int>(hidden.size()), options);
  cached_run run = run_cached(m, cache, step, hidden, sequence.length(), enough);
  step.commit();
  return run;
}

/// All tokens one by one.
template <class Cache>
std::vector<numbers> decode_all(const tiny_transformer& m, const Cache& cache, const std::vector<numbers>& hidden) {
  auto copy = cache;
  auto sequence = copy.open();
  std::vector<numbers> out;
  for (const numbers& x : hidden) out.push_back(feed_model(m, cache, sequence, {x}).hidden[0]);
  return out;
}

// ------------------------------------------------------------------------------------------------- the recurrence
enum class mistake { none, newest_entry_lost, zero_key_kept };

struct recurrence {
  std::vector<numbers> hidden;                     // [tokens][width]
  std::vector<std::vector<numbers>> keys, values;  // [layers][tokens][kv_heads * head_dim]
};

/// Token by token, bottom up, in float64. source[i] = layer whose entries layer i reads; a layer that reads above
/// itself sees those of earlier tokens, the others their own too (nobody does when hide_self). No entries: attention is
/// 0.
inline recurrence recur(const tiny_transformer& m, const std::vector<int>& source, const std::vector<numbers>& tokens,
                        bool hide_self = false, mistake wrong = mistake::none) {
  const int layers = m.shape.layers, d = m.shape.head_dim, group = m.shape.group();
  recurrence r;
  r.keys.resize(std::size_t(layers)), r.values.resize(std::size_t(layers));
  for (int n = 0; n < static_cast<int>(tokens.size()); ++n) {
    numbers x = tokens[std::size_t(n)];
    for (int i = 0; i < layers; ++i) {
      const int c = source[std::size_t(i)];
      for (const int reader : source)
        if (reader == i) {  // somebody reads this layer's entries
          r.keys[std::size_t(i)].push_back(m.key(i, x, n));
          r.values[std::size_t(i)].push_back(m.value(i, x));
          break;
        }
      const numbers q = m.query(i, x, n);
      int entries = c > i || hide_self ? n : n + 1;
      if (c > i && wrong == mistake::newest_entry_lost) entries = std::max(0, n - 1);
      numbers attended(q.size(), 0.0);
      for (int h = 0; h < m.shape.query_heads; ++h) {
        const auto at_q = static_cast<std::size_t>(h * d), at_k = static_cast<std::size_t>(h / group * d);
        numbers weight;
        double sum = c > i && wrong == mistake::zero_key_kept ? 1.0 : 0.0;
        for (int j = 0; j < entries; ++j) {
          double logit = 0;
          for (std::size_t e = 0; e < std::size_t(d); ++e)
            logit += q[at_q + e] * r.keys[std::size_t(c)][std::size_t(j)][at_k + e];
          weight.push_back(std::exp(logit / std::sqrt(d)));
          sum += weight.back();
        }
        for (int j = 0; j < entries; ++j)
          for (std::size_t e = 0; e < std::size_t(d); ++e)
            attended[at_q + e] += weight[std::size_t(j)] / sum * r.values[std::size_t(c)][std::size_t(j)][at_k + e];
      }
      m.finish(i, x, attended);
    }
    r.hidden.push_back(x);
  }
  return r;
}

/// ||a - b|| / ||b|| of one token's hidden state.
inline double distance(const numbers& a, const numbers& b) {
  return relative_error(a.data(), b.data(), static_cast<int>(b.size()));
}
/// The largest one over all tokens.
inline double distance(const std::vector<numbers>& a, const std::vector<numbers>& b) {
  double worst = a.size() == b.size() ? 0.0 : 1e9;
  for (std::size_t t = 0; t < std::min(a.size(), b.size()); ++t) worst = std::max(worst, distance(a[t], b[t]));
  return worst;
}

}  // namespace test
