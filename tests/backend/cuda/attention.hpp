// SPDX-License-Identifier: Apache-2.0
// What the tests of attention kernels share: a batch of sequences with rows of every kind in one codec, and float64
// attention over the rows as they are read back. Device memory is the host's.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <tersekv/backend/cuda/rows.hpp>
#include <tersekv/page_format.hpp>
#include <tersekv/read/read_all.hpp>

#include "catch.hpp"
#include "index.hpp"

namespace test {

namespace kv = tersekv;
namespace kd = tersekv::detail;

/// Rows of a head by kind. `dead`: every dead-th packed row; 0 = none.
struct parts {
  int sinks = 0, packed = 0, window = 0, dead = 0;
};

struct scene {
  int key_dim = 64, value_dim = 64, kv_heads = 1, group = 1;
  std::vector<parts> heads = {{}};  // of sequence s and head h: heads[(s * kv_heads + h) % size]
  std::vector<int> tokens = {1};    // of each sequence
  int window = 0;
  bool sees_self = true, biased = false, wants_sum = true;
  kd::element type = kd::element::f32;
  float spread = 1;  // of queries
  unsigned seed = 1;
};

/// [rows, heads, dim] of any element type, with gaps between rows.
struct numbers {
  std::vector<unsigned char> bytes;
  kd::device_array array{};
  numbers(kd::element type, int rows, int heads, int dim) {
    const int stride = heads * dim + 8;
    bytes.assign(at((rows + 1) * stride) * (type == kd::element::f32 ? 4 : 2), 0);
    array = {bytes.data(), type, stride, dim};
  }
  float get(int row, int head, int c) const {
    const auto i = array.at(row, head) + c;
    if (array.type == kd::element::f32) return static_cast<const float*>(array.data)[i];
    if (array.type == kd::element::f16) return kv::to_float(static_cast<const kv::half*>(array.data)[i]);
    return kv::to_float(static_cast<const kv::bfloat16*>(array.data)[i]);
  }
  void set(int row, int head, int c, float x) {
    const auto i = array.at(row, head) + c;
    if (array.type == kd::element::f32)
      static_cast<float*>(array.data)[i] = x;
    else if (array.type == kd::element::f16)
      static_cast<kv::half*>(array.data)[i] = kv::from_float<kv::half>(x);
    else
      static_cast<kv::bfloat16*>(array.data)[i] = kv::from_float<kv::bfloat16>(x);
  }
};

struct answer {
  std::vector<double> out;     // [value_dim]
  std::vector<double> weight;  // [rows + n]
  double log_sum_exp = -std::numeric_limits<double>::infinity();
};

template <class Codec>
class attention_batch {
 public:
  using page_type = kv::page_format<Codec, kv::read_all>;

  page_type page;
  kd::attend_shape shape;
  std::vector<kd::device_query> batch;
  std::vector<std::vector<float>> sums;  // [sequences][n, query_heads]

  explicit attention_batch(const scene& s, Codec codec = {})
      : page(codec, kv::read_all{}, s.key_dim, s.value_dim), shape{s.kv_heads, s.group,
                                                                   1.0f / std::sqrt(static_cast<float>(s.key_dim)),
                                                                   s.window, s.sees_self},
        scene_(s), random_(s.seed) {
    const auto sequences = s.tokens.size();
    heads_.resize(sequences), lengths_.resize(sequences), device_.resize(sequences), sums.resize(sequences);
    for (std::size_t i = 0; i < sequences; ++i) {
      const int n = s.tokens[i], query_heads = s.kv_heads * s.group;
      for (int h = 0; h < s.kv_heads; ++h) {
        parts p = s.heads[(i * at(s.kv_heads) + at(h)) % s.heads.size()];
        p.packed = (p.packed + page_type::span - 1) / page_type::span * page_type::span;
        heads_[i].push_back(make_head(p));
        lengths_[i] = std::max(lengths_[i], p.sinks + p.packed + p.window + 3);
      }
      for (auto& head : heads_[i]) device_[i].push_back(head.device());
      arrays_.push_back({numbers(s.type, n, query_heads, s.key_dim), numbers(s.type, n, query_heads, s.value_dim),
                         numbers(s.type, n, s.kv_heads, s.key_dim), numbers(s.type, n, s.kv_heads, s.value_dim)});
      auto& a = arrays_.back();
      fill(a.queries, n, query_heads, s.key_dim, s.spread);
      fill(a.keys, n, s.kv_heads, s.key_dim, 1);
      fill(a.values, n, s.kv_heads, s.value_dim, 1);
      sums[i].assign(at(n * query_heads), 0.0f);
    }
    for (std::size_t i = 0; i < sequences; ++i)
      batch.push_back({device_[i].data(), arrays_[i].queries.array, arrays_[i].out.array,
                       s.wants_sum ? sums[i].data() : nullptr, arrays_[i].keys.array, arrays_[i].values.array,
                       &lengths_[i], s.tokens[i]});
  }

  int sequences() const { return static_cast<int>(batch.size()); }
  int most_tokens() const { return *std::max_element(scene_.tokens.begin(), scene_.tokens.end()); }
  int rows(int sequence, int head) const { return device_[at(sequence)][at(head)].rows(); }
  int most_rows() const {
    int most = 0;
    for (const auto& s : device_)
      for (const auto& h : s) most = std::max(most, h.rows());
    return most;
  }
  int length(int sequence) const { return lengths_[at(sequence)]; }
  const numbers& queries(int sequence) const { return arrays_[at(sequence)].queries; }
  float out(int sequence, int token, int query_head, int c) const {
    return arrays_[at(sequence)].out.get(token, query_head, c);
  }

  /// float64 attention over decoded rows; `seen` says which packed pages count, null = all. The query stands at the
  /// token's position plus `moved`.
  answer expected(int sequence, int token, int query_head, const std::vector<int>* seen = nullptr,
                  int moved = 0) const {
    const auto& a = arrays_[at(sequence)];
    const int h = query_head / scene_.group, n = scene_.tokens[at(sequence)];
    const head_data& head = heads_[at(sequence)][at(h)];
    const int committed = static_cast<int>(head.position.size()), own = lengths_[at(sequence)] + token + moved;
    answer r;
    std::vector<double> logit(at(committed + n), -std::numeric_limits<double>::infinity());
    double top = -std::numeric_limits<double>::infinity();
    for (int i = 0; i < committed + n; ++i) {
      const int p = i < committed ? head.position[at(i)] : lengths_[at(sequence)] + i - committed;
      if (p < 0 || p > (scene_.sees_self ? own : own - 1)) continue;
      if (scene_.window > 0 && p <= own - scene_.window) continue;
      const int packed = i - head.sinks;
      if (seen && packed >= 0 && packed < head.packed &&
          std::find(seen->begin(), seen->end(), packed / page_type::rows) == seen->end())
        continue;
      double x = 0;
      for (int c = 0; c < scene_.key_dim; ++c)
        x += static_cast<double>(a.queries.get(token, query_head, c)) *
             (i < committed ? head.keys[at(i * scene_.key_dim + c)] : a.keys.get(i - committed, h, c));
      logit[at(i)] = x * static_cast<double>(shape.scale) + (scene_.biased && i < committed ? head.bias[at(i)] : 0.0f);
      top = std::max(top, logit[at(i)]);
    }
    r.out.assign(at(scene_.value_dim), 0.0), r.weight.assign(logit.size(), 0.0);
    double sum = 0;
    for (std::size_t i = 0; i < logit.size(); ++i)
      if (logit[i] > -std::numeric_limits<double>::infinity()) sum += r.weight[i] = std::exp(logit[i] - top);
    if (sum == 0) return r;
    r.log_sum_exp = top + std::log(sum);
    for (int i = 0; i < committed + n; ++i) {
      r.weight[at(i)] /= sum;
      if (r.weight[at(i)] == 0) continue;
      for (int c = 0; c < scene_.value_dim; ++c)
        r.out[at(c)] += r.weight[at(i)] * static_cast<double>(i < committed ? head.values[at(i * scene_.value_dim + c)]
                                                                            : a.values.get(i - committed, h, c));
    }
    return r;
  }
  /// Attention of one token per row index, the mean over a group's query heads.
  std::vector<double> expected_mass(int sequence, int token, int head, int moved = 0) const {
    std::vector<double> mass;
    for (int g = 0; g < scene_.group; ++g) {
      const answer a = expected(sequence, token, head * scene_.group + g, nullptr, moved);
      mass.resize(a.weight.size());
      for (std::size_t i = 0; i < mass.size(); ++i) mass[i] += a.weight[i] / scene_.group;
    }
    return mass;
  }

  /// Every output is within `error` of float64, in units of the largest expected number; and every sum.
  void check(double error) const {
    for (int s = 0; s < sequences(); ++s)
      for (int t = 0; t < scene_.tokens[at(s)]; ++t)
        for (int q = 0; q < scene_.kv_heads * scene_.group; ++q) check(s, t, q, error, expected(s, t, q));
    SUCCEED();
  }
  void check(int s, int t, int q, double error, const answer& right) const {
    CAPTURE(s, t, q);
    double worst = 0, largest = 1e-3;
    for (int c = 0; c < scene_.value_dim; ++c) {
      const double x = static_cast<double>(out(s, t, q, c));
      worst = std::isnan(x) ? 1e9 : std::max(worst, std::abs(x - right.out[at(c)]));
      largest = std::max(largest, std::abs(right.out[at(c)]));
    }
    if (!(worst <= error * largest)) CHECK(worst <= error * largest);  // one assertion per query takes long
    if (!scene_.wants_sum) return;
    const float sum = sums[at(s)][at(t * scene_.kv_heads * scene_.group + q)];
    if (std::isinf(right.log_sum_exp)) {
      CHECK(static_cast<double>(sum) == right.log_sum_exp);
    } else if (!(std::abs(static_cast<double>(sum) - right.log_sum_exp) <= error * (1 + std::abs(right.log_sum_exp)))) {
      CHECK(static_cast<double>(sum) == right.log_sum_exp);
    }
  }

 private:
  struct block16 {
    alignas(16) unsigned char bytes[16];
  };
  struct head_data {
    std::vector<std::vector<block16>> pages;
    std::vector<std::byte*> page;
    std::vector<int> position;
    std::vector<float> bias, keys, values;  // as they are read back
    std::vector<kv::half> sink_keys, sink_values, window_keys, window_values;
    int sinks = 0, packed = 0, window = 0, dead = 0;
    bool biased = false;
    kd::device_head device() {
      return {page.data(),
              position.data(),
              nullptr,
              biased ? bias.data() : nullptr,
              sink_keys.data(),
              sink_values.data(),
              window_keys.data(),
              window_values.data(),
              sinks,
              packed,
              dead,
              window};
    }
  };
  struct arrays {
    numbers queries, out, keys, values;
  };

  float draw() { return std::normal_distribution<float>()(random_); }
  void fill(numbers& x, int rows, int heads, int dim, float spread) {
    for (int r = 0; r < rows; ++r)
      for (int h = 0; h < heads; ++h)
        for (int c = 0; c < dim; ++c) x.set(r, h, c, spread * draw());
  }
  /// Keys whose channels differ in size, as those of models do.
  head_data make_head(const parts& p) {
    const int dk = scene_.key_dim, dv = scene_.value_dim, rows = p.sinks + p.packed + p.window;
    head_data head;
    head.sinks = p.sinks, head.packed = p.packed, head.window = p.window, head.biased = scene_.biased;
    head.keys.resize(at(rows * dk)), head.values.resize(at(rows * dv));
    for (std::size_t i = 0; i < head.keys.size(); ++i) head.keys[i] = draw() * (i % at(dk) % 7 == 3 ? 3.0f : 1.0f);
    for (float& x : head.values) x = draw();
    for (int i = 0; i < rows; ++i) {
      const bool is_dead = p.dead > 0 && i >= p.sinks && i < p.sinks + p.packed && (i - p.sinks) % p.dead == 0;
      head.position.push_back(is_dead ? -1 : i + (i > rows / 2 ? 3 : 0));
      head.dead += is_dead;
      head.bias.push_back(draw());
    }
    round(head.keys.data(), p.sinks * dk, head.sink_keys), round(head.values.data(), p.sinks * dv, head.sink_values);
    const int first = p.sinks + p.packed;
    round(head.keys.data() + first * dk, p.window * dk, head.window_keys);
    round(head.values.data() + first * dv, p.window * dv, head.window_values);
    for (int r = 0; r < p.packed; r += page_type::rows) {
      head.pages.emplace_back(page.bytes() / 16 + 1);
      auto* bytes = reinterpret_cast<std::byte*>(head.pages.back().data());
      std::memset(bytes, 0xff, page.bytes());  // what is not written is never read, or does not matter
      const int count = std::min(page_type::rows, p.packed - r);
      float *k = head.keys.data() + (p.sinks + r) * dk, *v = head.values.data() + (p.sinks + r) * dv;
      page.encode(bytes, 0, count, k, v);
      page.decode_keys(bytes, 0, count, k);
      page.decode_values(bytes, 0, count, v);
    }
    for (auto& bytes : head.pages) head.page.push_back(reinterpret_cast<std::byte*>(bytes.data()));
    return head;
  }
  static void round(float* x, int n, std::vector<kv::half>& to) {
    to.resize(at(n));
    kv::narrow(x, n, to.data());
    kv::widen(to.data(), n, x);
  }

  scene scene_;
  std::mt19937 random_;
  std::vector<std::vector<head_data>> heads_;  // [sequences][kv_heads]
  std::vector<int> lengths_;
  std::vector<std::vector<kd::device_head>> device_;
  std::vector<arrays> arrays_;
};

}  // namespace test
