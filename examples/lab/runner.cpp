// SPDX-License-Identifier: Apache-2.0
#include "runner.hpp"

#include <Eigen/Core>
#include <chrono>
#include <cmath>

namespace lab {
namespace {

constexpr float norm_epsilon = 1e-5f;
constexpr double rotary_base = 10000;

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using vector = Eigen::Matrix<float, Eigen::Dynamic, 1>;
using stopwatch = std::chrono::steady_clock;

std::size_t size(int x) { return static_cast<std::size_t>(x); }

/// y [n, outputs] = x [n, inputs] weights[first_output ..]^T, or += when `add`. One token is a matrix-vector product.
void project(const std::vector<float>& weights, int first_output, int outputs, const std::vector<float>& x, int inputs,
             int n, std::vector<float>& y, int y_width, int y_column, bool add = false) {
  const Eigen::Map<const matrix> w(weights.data() + size(first_output) * size(inputs), outputs, inputs);
  if (n == 1) {
    const Eigen::Map<const vector> in(x.data(), inputs);
    Eigen::Map<vector> out(y.data() + y_column, outputs);
    if (add)
      out.noalias() += w * in;
    else
      out.noalias() = w * in;
    return;
  }
  const Eigen::Map<const matrix> in(x.data(), n, inputs);
  Eigen::Map<matrix, 0, Eigen::OuterStride<>> out(y.data() + y_column, n, outputs, Eigen::OuterStride<>(y_width));
  if (add)
    out.noalias() += in * w.transpose();
  else
    out.noalias() = in * w.transpose();
}

void normalise(const float* x, const std::vector<float>& weight, int n, float* out) {
  const int dim = static_cast<int>(weight.size());
  for (int i = 0; i < n; ++i, x += dim, out += dim) {
    float squares = 0;
    for (int j = 0; j < dim; ++j) squares += x[j] * x[j];
    const float scale = 1 / std::sqrt(squares / static_cast<float>(dim) + norm_epsilon);
    for (int j = 0; j < dim; ++j) out[j] = weight[size(j)] * (scale * x[j]);
  }
}

}  // namespace

kv::model_shape shape_of(const model_dims& d) {
  return {.layers = d.layers, .query_heads = d.heads, .kv_heads = d.kv_heads, .head_dim = d.head_dim()};
}

void runner::prepare(kv::any_cache& cache, int first_position, int n) {
  const model_dims& d = model_.dims;
  const auto grow = [](std::vector<float>& v, std::size_t wanted) {
    if (v.size() < wanted) v.resize(wanted);
  };
  grow(b_.x, size(n) * size(d.dim));
  grow(b_.normed, size(n) * size(d.dim));
  grow(b_.qkv, size(n) * size(d.dim + 2 * d.kv_dim()));
  grow(b_.mixed, size(n) * size(d.dim));
  grow(b_.gate_up, size(n) * size(2 * d.hidden));
  grow(b_.logits, size(d.vocab));

  const int pairs = d.head_dim() / 2, known = static_cast<int>(cosine_.size()) / pairs;
  if (const int wanted = first_position + n; wanted > known) {
    const int positions = std::max(wanted, 2 * known);
    cosine_.resize(size(positions) * size(pairs));
    sine_.resize(cosine_.size());
    for (int p = known; p < positions; ++p)
      for (int i = 0; i < pairs; ++i) {
        const double angle = p * std::pow(rotary_base, -2.0 * i / d.head_dim());
        cosine_[size(p) * size(pairs) + size(i)] = static_cast<float>(std::cos(angle));
        sine_[size(p) * size(pairs) + size(i)] = static_cast<float>(std::sin(angle));
      }
  }

  if (scheduled_cache_ != &cache || scheduled_n_ != n || first_position == 0) {  // 0: perhaps another cache moved in
    schedule_ = cache.schedule(n);
    scheduled_cache_ = &cache;
    scheduled_n_ = n;
    for (const auto& range : schedule_)
      if (range.passes > 1) grow(b_.entry, size(n) * size(d.dim));
  }
}

void runner::rotate(int first_position, int n, int row_width, int heads, float* rows) const {
  const int half = model_.dims.head_dim() / 2;
  for (int i = 0; i < n; ++i) {
    const float* c = cosine_.data() + size(first_position + i) * size(half);
    const float* s = sine_.data() + size(first_position + i) * size(half);
    float* x = rows + size(i) * size(row_width);
    for (int h = 0; h < heads; ++h, x += 2 * half)
      for (int j = 0; j < half; ++j) {
        const float a = x[2 * j], b = x[2 * j + 1];
        x[2 * j] = a * c[j] - b * s[j];
        x[2 * j + 1] = a * s[j] + b * c[j];
      }
  }
}

template <class Step>
void runner::run_layer(kv::any_cache& cache, Step& step, int layer, int first_position, int n) {
  const model_dims& d = model_.dims;
  const layer_weights& w = model_.layers[size(layer)];
  const int kv_dim = d.kv_dim(), width = d.dim + 2 * kv_dim, head = d.head_dim();
  const bool owns = cache.owns(layer);

  normalise(b_.x.data(), w.attention_norm, n, b_.normed.data());
  project(w.qkv, 0, owns ? width : d.dim, b_.normed, d.dim, n, b_.qkv, width, 0);
  float *q = b_.qkv.data(), *k = q + d.dim, *v = k + kv_dim;
  rotate(first_position, n, width, d.heads, q);
  if (owns) rotate(first_position, n, width, d.kv_heads, k);

  const auto start = stopwatch::now();
  if (owns) step.append(layer, kv::view(k, n, d.kv_heads, head, width), kv::view(v, n, d.kv_heads, head, width));
  step.attend(layer, kv::view(q, n, d.heads, head, width), kv::view(b_.mixed.data(), n, d.heads, head));
  cache_seconds_ += std::chrono::duration<double>(stopwatch::now() - start).count();
  project(w.out, 0, d.dim, b_.mixed, d.dim, n, b_.x, d.dim, 0, true);

  normalise(b_.x.data(), w.mlp_norm, n, b_.normed.data());
  project(w.gate_up, 0, 2 * d.hidden, b_.normed, d.dim, n, b_.gate_up, 2 * d.hidden, 0);
  for (int i = 0; i < n; ++i) {  // silu(gate) * up, moved together into rows of `hidden`
    const float* gate = b_.gate_up.data() + size(i) * size(2 * d.hidden);
    const float* up = gate + d.hidden;
    float* out = b_.gate_up.data() + size(i) * size(d.hidden);
    for (int j = 0; j < d.hidden; ++j) out[j] = gate[j] / (1 + std::exp(-gate[j])) * up[j];
  }
  project(w.down, 0, d.dim, b_.gate_up, d.hidden, n, b_.x, d.dim, 0, true);
}

std::span<const float> runner::feed(kv::any_cache& cache, kv::any_sequence& chat, std::span<const int> tokens,
                                    feed_options options) {
  const model_dims& d = model_.dims;
  const int n = static_cast<int>(tokens.size()), first_position = static_cast<int>(chat.length());
  prepare(cache, first_position, n);
  for (int i = 0; i < n; ++i)
    std::copy_n(model_.embedding.data() + size(tokens[size(i)]) * size(d.dim), d.dim,
                b_.x.data() + size(i) * size(d.dim));

  auto step = chat.step(n, {.more = options.more});
  for (const auto& range : schedule_) {
    if (range.passes > 1) std::copy_n(b_.x.data(), size(n) * size(d.dim), b_.entry.data());
    for (int pass = 0; pass < range.passes; ++pass) {
      if (pass > 0) std::copy_n(b_.entry.data(), size(n) * size(d.dim), b_.x.data());
      for (int layer = range.first; layer <= range.last; ++layer) run_layer(cache, step, layer, first_position, n);
    }
  }
  const auto start = stopwatch::now();
  step.commit();
  cache_seconds_ += std::chrono::duration<double>(stopwatch::now() - start).count();

  if (!options.logits) return {};
  normalise(b_.x.data() + size(n - 1) * size(d.dim), model_.final_norm, 1, b_.normed.data());
  project(model_.classifier(), 0, d.vocab, b_.normed, d.dim, 1, b_.logits, d.vocab, 0);
  return {b_.logits.data(), size(d.vocab)};
}

}  // namespace lab
