// SPDX-License-Identifier: Apache-2.0
// What many tests need: random rows, a stream of tokens to feed, float64 attention, a counting memory resource.
#pragma once
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory_resource>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include <tersekv/cache.hpp>

namespace test {

namespace kv = tersekv;

extern std::atomic<std::size_t> news;  // calls of operator new in this program; stays zero under the address sanitizer

inline std::vector<float> normal(std::size_t n, unsigned seed, float sigma = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw(0.0f, sigma);
  std::vector<float> out(n);
  for (float& x : out) x = draw(engine);
  return out;
}

/// Keys, values and queries of `tokens` tokens for every layer, all random.
struct stream {
  kv::model_shape shape;
  int tokens;
  std::vector<std::vector<float>> k, v, q;  // [layers][tokens, heads, dim]

  stream(const kv::model_shape& wanted, int tokens, unsigned seed = 1, float sigma = 1.0f)
      : shape(wanted.checked()), tokens(tokens) {
    for (int l = 0; l < shape.layers; ++l) {
      const auto s = seed * 1000u + static_cast<unsigned>(l) * 3u;
      k.push_back(normal(size(shape.kv_heads, shape.head_dim), s, sigma));
      v.push_back(normal(size(shape.kv_heads, shape.value_dim), s + 1, sigma));
      q.push_back(normal(size(shape.query_heads, shape.head_dim), s + 2, sigma));
    }
  }
  kv::view keys(int layer, int first, int n) { return rows(k[at(layer)], first, n, shape.kv_heads, shape.head_dim); }
  kv::view values(int layer, int first, int n) { return rows(v[at(layer)], first, n, shape.kv_heads, shape.value_dim); }
  kv::view queries(int layer, int first, int n) {
    return rows(q[at(layer)], first, n, shape.query_heads, shape.head_dim);
  }
  const float* key(int layer, int t, int h) const { return row(k[at(layer)], t, h, shape.kv_heads, shape.head_dim); }
  const float* value(int layer, int t, int h) const { return row(v[at(layer)], t, h, shape.kv_heads, shape.value_dim); }
  const float* query(int layer, int t, int h) const {
    return row(q[at(layer)], t, h, shape.query_heads, shape.head_dim);
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  std::size_t size(int heads, int dim) const { return at(tokens) * at(heads) * at(dim); }
  static kv::view rows(std::vector<float>& x, int first, int n, int heads, int dim) {
    return {x.data() + at(first) * at(heads) * at(dim), n, heads, dim};
  }
  static const float* row(const std::vector<float>& x, int t, int h, int heads, int dim) {
    return x.data() + (at(t) * at(heads) + at(h)) * at(dim);
  }
};

/// Runs tokens first .. first + n of the stream through a step (own, or any downward map) without committing it.
/// Returns the outputs of all layers: [layers][n, query_heads, value_dim].
template <class Cache, class Step>
std::vector<std::vector<float>> run(const Cache& cache, Step& step, stream& s, int first, int n) {
  std::vector<std::vector<float>> out;
  for (int l = 0; l < s.shape.layers; ++l) {
    if (cache.owns(l)) step.append(l, s.keys(l, first, n), s.values(l, first, n));
    std::vector<float> o(static_cast<std::size_t>(n * s.shape.query_heads * s.shape.value_dim));
    step.attend(l, s.queries(l, first, n), kv::view(o.data(), n, s.shape.query_heads, s.shape.value_dim));
    out.push_back(std::move(o));
  }
  return out;
}

/// One committed step over the next n tokens of the stream; returns the outputs of all layers.
template <class Cache, class Sequence>
std::vector<std::vector<float>> feed(const Cache& cache, Sequence& sequence, stream& s, int n,
                                     kv::step_options options = {}) {
  auto step = sequence.step(n, options);
  auto out = run(cache, step, s, sequence.length(), n);
  step.commit();
  return out;
}

/// softmax(scale * q k^T + bias) v over rows given by pointers, in float64. No rows: zeros.
inline std::vector<double> attention(const float* q, const std::vector<const float*>& keys,
                                     const std::vector<const float*>& values, int key_dim, int value_dim, double scale,
                                     const std::vector<double>& bias = {}, double* log_sum_exp = nullptr) {
  std::vector<double> logits, out(static_cast<std::size_t>(value_dim), 0.0);
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (std::size_t r = 0; r < keys.size(); ++r) {
    double x = bias.empty() ? 0.0 : bias[r];
    for (int c = 0; c < key_dim; ++c) x += scale * static_cast<double>(q[c]) * static_cast<double>(keys[r][c]);
    logits.push_back(x);
    top = std::max(top, x);
  }
  for (const double x : logits) sum += std::exp(x - top);
  for (std::size_t r = 0; r < keys.size(); ++r)
    for (int c = 0; c < value_dim; ++c)
      out[static_cast<std::size_t>(c)] += std::exp(logits[r] - top) / sum * static_cast<double>(values[r][c]);
  if (log_sum_exp) *log_sum_exp = keys.empty() ? top : top + std::log(sum);
  return out;
}

/// Exact causal attention of token t of the stream over the given positions (all up to t when empty).
inline std::vector<double> exact(const stream& s, int layer, int t, int query_head,
                                 const std::vector<int>& positions = {}) {
  const int h = query_head / s.shape.group();
  std::vector<const float*> keys, values;
  if (positions.empty())
    for (int p = 0; p <= t; ++p) keys.push_back(s.key(layer, p, h)), values.push_back(s.value(layer, p, h));
  else
    for (const int p : positions) keys.push_back(s.key(layer, p, h)), values.push_back(s.value(layer, p, h));
  return attention(s.query(layer, t, query_head), keys, values, s.shape.head_dim, s.shape.value_dim,
                   static_cast<double>(s.shape.scale));
}

/// ||a - b|| / ||b||, Euclidean.
template <class A, class B>
double relative_error(const A* a, const B* b, int n) {
  double difference = 0, norm = 0;
  for (int i = 0; i < n; ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

/// Largest relative error of fed outputs against exact attention, over tokens first .. first + n and all heads.
inline double worst_error(const stream& s, const std::vector<std::vector<float>>& outputs, int first, int n) {
  double worst = 0;
  for (int l = 0; l < s.shape.layers; ++l)
    for (int t = 0; t < n; ++t)
      for (int h = 0; h < s.shape.query_heads; ++h) {
        const auto want = exact(s, l, first + t, h);
        const float* got = outputs[static_cast<std::size_t>(l)].data() +
                           static_cast<std::ptrdiff_t>(t * s.shape.query_heads + h) * s.shape.value_dim;
        worst = std::max(worst, relative_error(got, want.data(), s.shape.value_dim));
      }
  return worst;
}

/// A backend whose work is done by that many threads, in an order of their own, and 0 = by none; `most`: the most
/// pieces of work that were given at once.
inline kv::cpu on_threads(int threads, std::atomic<int>* most = nullptr) {
  kv::cpu backend;
  if (threads > 0)
    backend.parallel = [=](int n, const std::function<void(int)>& work) {
      if (most) *most = std::max(most->load(), n);
      std::vector<std::thread> pool;
      for (int t = 0; t < threads; ++t)
        pool.emplace_back([&, t] {
          for (int i = threads - 1 - t; i < n; i += threads) work(i);
        });
      for (auto& t : pool) t.join();
    };
  return backend;
}

/// Counts what is allocated through it; refuses above `limit` bytes (0 = never).
class counting_resource : public std::pmr::memory_resource {
 public:
  std::size_t held = 0, peak = 0, allocations = 0, limit = 0;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (limit != 0 && held + bytes > limit) throw std::bad_alloc();
    void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);  // none of test::news
    if (!p) throw std::bad_alloc();
    held += bytes;
    peak = std::max(peak, held);
    ++allocations;
    return p;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t) override {
    held -= bytes;
    std::free(p);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace test
