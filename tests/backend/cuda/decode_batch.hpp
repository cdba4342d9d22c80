// SPDX-License-Identifier: Apache-2.0
// A batch of sequences in "device" memory, written by the CPU's formats, and float64 attention over the same rows.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include <tersekv/backend/cuda/decode_launch.cuh>
#include <tersekv/codec/int4.hpp>
#include <tersekv/read/read_all.hpp>

#include "catch.hpp"
#include "index.hpp"

namespace test {

namespace kv = tersekv;
namespace kd = tersekv::detail;

enum class kind { gaussian, heavy_tails, channel_means, far_values, logits_of_eighty, sink, tiny };

/// How many rows a head has, and what of them is hidden.
struct head_shape {
  int sinks = 0, packed = 0, window = 0;
  int dead_every = 0;  // of packed rows; 0 = none
  bool biased = false;
};
struct batch_shape {
  int key_dim = 128, value_dim = 128, kv_heads = 2, group = 4, tokens = 1, window = 0;
  bool sees_self = true;
  kd::element element = kd::element::f32;
  kind what = kind::gaussian;
};

struct errors {
  double kernel = 0, codec = 0, output = 0;  // sums of squares
  double ratio() const { return std::sqrt(kernel / codec); }
  double relative() const { return std::sqrt(kernel / output); }
};

template <class Codec>
struct decode_batch {
  using page_type = kv::page_format<Codec, kv::read_all>;

  struct head_memory {
    std::vector<double> k, v, true_k, true_v;  // [rows, dim] as stored, and as given: sinks | packed | window | own
    std::vector<int> position;
    std::vector<float> bias;
    std::vector<std::vector<uint4>> bytes;  // pages
    std::vector<std::byte*> pages;
    std::vector<kv::half> dense[4];
  };
  struct sequence_memory {
    std::deque<head_memory> heads;
    std::vector<kd::device_head> device;
    std::vector<unsigned char> q, k, v, out;  // arrays of the engine's element
    std::vector<double> queries;              // as stored
    std::vector<float> log_sum_exp;
    int length = 0;
  };

  page_type page;
  batch_shape shape;
  kd::attend_shape attend;
  std::deque<sequence_memory> sequences;
  std::vector<kd::device_query> queries;
  kd::decode_limits most{0, 0, 0, 0};
  std::mt19937 engine;
  std::vector<std::vector<uint4>> held;  // workspace

  decode_batch(const batch_shape& shape, const std::vector<std::vector<head_shape>>& wanted, unsigned seed)
      : page(Codec{}, kv::read_all{}, shape.key_dim, shape.value_dim),
        shape(shape), attend{shape.kv_heads, shape.group, 1 / std::sqrt(static_cast<float>(shape.key_dim)),
                             shape.window, shape.sees_self},
        engine(seed) {
    for (const auto& heads : wanted) add(heads);
    for (sequence_memory& s : sequences) queries.push_back(query(s));
    most.sequences = static_cast<int>(sequences.size());
    most.tokens = shape.tokens;
  }

  float normal() { return std::normal_distribution<float>()(engine); }
  float draw() {
    if (shape.what == kind::heavy_tails) return std::student_t_distribution<float>(3.0f)(engine);
    return shape.what == kind::tiny ? 1e-4f * normal() : normal();
  }
  int value_heads() const { return shape.kv_heads * shape.group; }

  std::vector<float> rows(int n, int dim, bool keys) {
    std::vector<float> x(at(n * dim));
    for (float& c : x) c = draw();
    if (shape.what == kind::channel_means) {
      std::mt19937 fixed(7);
      for (int c = 0; c < dim; ++c) {
        const float mean = 3 * std::normal_distribution<float>()(fixed);
        for (int t = 0; t < n; ++t) x[at(t * dim + c)] += mean;
      }
    }
    if (shape.what == kind::far_values && !keys)
      for (float& c : x) c += 20;
    if (shape.what == kind::sink)  // row 0 takes about half of all weight, and values of it are small
      for (int c = 0; c < dim && n > 0; ++c) x[at(c)] = keys ? 0.7f : 0.05f * x[at(c)];
    return x;
  }

  void add(const std::vector<head_shape>& wanted) {
    sequence_memory& s = sequences.emplace_back();
    const int dk = shape.key_dim, dv = shape.value_dim, n = shape.tokens;
    for (const head_shape& h : wanted) s.length = std::max(s.length, 2 * (h.sinks + h.packed + h.window));
    s.q.resize(at(n * value_heads() * dk) * 4), s.out.resize(at(n * value_heads() * dv) * 4);
    s.k.resize(at(n * shape.kv_heads * dk) * 4), s.v.resize(at(n * shape.kv_heads * dv) * 4);
    s.log_sum_exp.assign(at(n * value_heads()), -7);
    for (int i = 0; i < n * value_heads() * dk; ++i) {
      float x = shape.what == kind::tiny ? 2000 * normal() : normal();
      if (shape.what == kind::logits_of_eighty) x *= 20;
      if (shape.what == kind::sink) x += 0.35f * std::sqrt(static_cast<float>(128) / static_cast<float>(dk));
      s.queries.push_back(put(s.q, i, x));
    }
    for (const head_shape& h : wanted) add_head(s, h);
    for (int i = 0; i < static_cast<int>(s.heads.size()); ++i)
      s.device.push_back(device(s.heads[at(i)], wanted[at(i)]));
  }

  /// Stores element i; gives what was stored.
  double put(std::vector<unsigned char>& to, int i, float x) const {
    if (shape.element == kd::element::f32) {
      std::memcpy(to.data() + 4 * at(i), &x, 4);
      return static_cast<double>(x);
    }
    if (shape.element == kd::element::f16) {
      const kv::half h = kv::from_float<kv::half>(x);
      std::memcpy(to.data() + 2 * at(i), &h, 2);
      return static_cast<double>(kv::to_float(h));
    }
    const kv::bfloat16 b = kv::from_float<kv::bfloat16>(x);
    std::memcpy(to.data() + 2 * at(i), &b, 2);
    return static_cast<double>(kv::to_float(b));
  }
  double get(const std::vector<unsigned char>& from, int i) const {
    if (shape.element == kd::element::f32) {
      float x;
      std::memcpy(&x, from.data() + 4 * at(i), 4);
      return static_cast<double>(x);
    }
    std::uint16_t bits;
    std::memcpy(&bits, from.data() + 2 * at(i), 2);
    return static_cast<double>(shape.element == kd::element::f16 ? kv::to_float(kv::half{bits})
                                                                 : kv::to_float(kv::bfloat16{bits}));
  }

  void add_head(sequence_memory& s, const head_shape& h) {
    head_memory& m = s.heads.emplace_back();
    const int dk = shape.key_dim, dv = shape.value_dim, all = h.sinks + h.packed + h.window, n = shape.tokens;
    const int head = static_cast<int>(s.heads.size()) - 1;
    std::vector<float> k = rows(all, dk, true), v = rows(all, dv, false);
    int position = 0;
    for (int i = 0; i < all; ++i) {
      position += 1 + static_cast<int>(engine() % 2);
      m.position.push_back(position - 1);
      m.bias.push_back(h.biased ? normal() : 0);
    }
    const auto give = [](const std::vector<float>& x, std::vector<double>& to) { to.assign(x.begin(), x.end()); };
    give(k, m.true_k), give(v, m.true_v);
    const auto halves = [](std::vector<float>& x, int first, int count, std::vector<kv::half>& to) {
      to.resize(at(count));
      kv::narrow(x.data() + first, count, to.data());
      kv::widen(to.data(), count, x.data() + first);
    };
    halves(k, 0, h.sinks * dk, m.dense[0]), halves(v, 0, h.sinks * dv, m.dense[1]);
    const int tail = h.sinks + h.packed;
    halves(k, tail * dk, h.window * dk, m.dense[2]), halves(v, tail * dv, h.window * dv, m.dense[3]);
    constexpr int room = page_type::rows;
    for (int p = 0; p * room < h.packed; ++p) {
      auto& bytes = m.bytes.emplace_back(page.bytes() / 16 + 1);
      // What no row has filled holds anything: here NaN, as steps and as numbers.
      std::memset(bytes.data(), 0xff, bytes.size() * 16);
      auto* to = reinterpret_cast<std::byte*>(bytes.data());
      const int first = h.sinks + p * room, count = std::min(room, h.packed - p * room);
      page.encode(to, 0, count, k.data() + first * dk, v.data() + first * dv);
      page.decode_keys(to, 0, count, k.data() + first * dk);
      page.decode_values(to, 0, count, v.data() + first * dv);
      m.pages.push_back(to);
    }
    for (int i = 0; h.dead_every > 0 && i < h.packed; i += h.dead_every) m.position[at(h.sinks + i)] = -1;
    give(k, m.k), give(v, m.v);
    for (int t = 0; t < n; ++t) {
      for (int c = 0; c < dk; ++c) m.k.push_back(put(s.k, (t * shape.kv_heads + head) * dk + c, draw()));
      for (int c = 0; c < dv; ++c) m.v.push_back(put(s.v, (t * shape.kv_heads + head) * dv + c, draw()));
      m.true_k.insert(m.true_k.end(), m.k.end() - dk, m.k.end());
      m.true_v.insert(m.true_v.end(), m.v.end() - dv, m.v.end());
      m.position.push_back(s.length + t);
      m.bias.push_back(0);
    }
    most.packed = std::max(most.packed, h.packed);
    most.numbers = std::max(most.numbers, h.sinks + h.window);
  }

  kd::device_head device(head_memory& m, const head_shape& h) {
    kd::device_head d{};
    d.page = m.pages.data(), d.position = m.position.data(), d.bias = h.biased ? m.bias.data() : nullptr;
    kv::half** const parts[] = {&d.sink_keys, &d.sink_values, &d.window_keys, &d.window_values};
    for (int i = 0; i < 4; ++i) *parts[i] = m.dense[i].data();
    d.sinks = h.sinks, d.packed = h.packed, d.window = h.window;
    for (int i = 0; i < h.packed; ++i) d.dead += m.position[at(h.sinks + i)] < 0;
    return d;
  }
  kd::device_query query(sequence_memory& s) {
    const auto array = [&](std::vector<unsigned char>& x, int heads, int dim) {
      return kd::device_array{x.data(), shape.element, std::int64_t{heads} * dim, dim};
    };
    return {s.device.data(),
            array(s.q, value_heads(), shape.key_dim),
            array(s.out, value_heads(), shape.value_dim),
            s.log_sum_exp.data(),
            array(s.k, shape.kv_heads, shape.key_dim),
            array(s.v, shape.kv_heads, shape.value_dim),
            &s.length,
            shape.tokens};
  }

  void* run(bool recorded = false, const kd::page_lists& lists = {}) {
    const std::size_t bytes = kd::decode_workspace_bytes(attend, shape.value_dim, most, recorded);
    auto& memory = held.emplace_back(bytes / 16 + 1);
    std::memset(memory.data(), 0xff, memory.size() * 16);
    kd::packed_attention(page, attend, queries.data(), most, memory.data(), recorded, lists, nullptr);
    return memory.data();
  }
  /// As run(), in splits of so many pieces that rings turn. For 64 channels and up to 8 query rows.
  void run_in_splits(int pieces) {
    using traits = kd::decode_traits<page_type, 64, 64, 1>;
    kd::decode_plan plan(attend, most);
    plan.pieces_of_split = pieces;
    plan.packed_splits = kd::decode_plan::divide(most.packed, 32 * pieces);
    std::vector<float> out(plan.parts() * 64, NAN);
    std::vector<float2> sums(plan.parts(), float2{NAN, NAN});
    const kd::decode_arguments a{plan, attend, queries.data(), out.data(), sums.data(), {}, {}};
    const auto heads = static_cast<unsigned>(shape.kv_heads), all = static_cast<unsigned>(most.sequences);
    kd::launch(kd::decode_kernel<traits>, dim3(static_cast<unsigned>(plan.splits()), heads, all), traits::threads,
               traits::memory::bytes, nullptr, a);
    kd::launch(kd::merge_kernel<>, dim3(static_cast<unsigned>(plan.query_rows), heads, all), 128, 0, nullptr,
               {plan, attend, a.batch, a.out, a.sums, nullptr, {}, 64, page_type::rows / 32});
  }

  /// Which rows of a head token i sees; `listed` asks for packed rows.
  using filter = std::function<bool(int sequence, int head, int packed_row)>;
  bool sees(const head_memory& m, const sequence_memory& s, int i, int row) const {
    const int own = s.length + i, p = m.position[at(row)];
    return p >= 0 && p <= (shape.sees_self ? own : own - 1) && (shape.window == 0 || p > own - shape.window);
  }
  /// Weights of one query row over all rows of its head, 0 where unseen; the log of their sum.
  std::vector<double> weights(int q, int head, int i, int g, bool truth, double& log_sum, const filter& listed) const {
    const sequence_memory& s = sequences[at(q)];
    const head_memory& m = s.heads[at(head)];
    const int n = static_cast<int>(m.position.size()), dk = shape.key_dim;
    std::vector<double> w(at(n), 0.0);
    double largest = -std::numeric_limits<double>::infinity();
    const kd::device_head& d = s.device[at(head)];
    const auto seen = [&](int t) {
      const bool packed = t >= d.sinks && t < d.sinks + d.packed;
      return sees(m, s, i, t) && (!packed || !listed || listed(q, head, t - d.sinks));
    };
    const double* query = s.queries.data() + (i * value_heads() + head * shape.group + g) * dk;
    for (int t = 0; t < n; ++t) {
      double x = 0;
      const auto& k = truth ? m.true_k : m.k;
      for (int c = 0; c < dk; ++c) x += query[c] * k[at(t * dk + c)];
      w[at(t)] = x * static_cast<double>(attend.scale) + static_cast<double>(m.bias[at(t)]);
      if (seen(t)) largest = std::max(largest, w[at(t)]);
    }
    double sum = 0;
    for (int t = 0; t < n; ++t) sum += w[at(t)] = seen(t) ? std::exp(w[at(t)] - largest) : 0.0;
    for (double& x : w) x = sum > 0 ? x / sum : 0;
    log_sum = sum > 0 ? largest + std::log(sum) : -std::numeric_limits<double>::infinity();
    return w;
  }

  /// Squares of errors over all outputs; checks the logarithms of sums.
  errors compare(const filter& listed = {}) const {
    errors e;
    const int dv = shape.value_dim;
    for (int q = 0; q < static_cast<int>(sequences.size()); ++q)
      for (int i = 0; i < shape.tokens; ++i)
        for (int r = 0; r < value_heads(); ++r) {
          const sequence_memory& s = sequences[at(q)];
          const int head = r / shape.group;
          const head_memory& m = s.heads[at(head)];
          double log_sum = 0, ignored = 0;
          const auto w = weights(q, head, i, r % shape.group, false, log_sum, listed);
          const auto u = weights(q, head, i, r % shape.group, true, ignored, listed);
          const auto got = static_cast<double>(s.log_sum_exp[at(i * value_heads() + r)]);
          if (std::isinf(log_sum))
            CHECK(got == log_sum);
          else if (!(std::abs(got - log_sum) < 2e-3 + 5e-4 * std::abs(log_sum)))
            CHECK(got == log_sum);
          for (int c = 0; c < dv; ++c) {
            double want = 0, truth = 0;
            for (std::size_t t = 0; t < w.size(); ++t) {
              want += w[t] * m.v[t * at(dv) + at(c)];
              truth += u[t] * m.true_v[t * at(dv) + at(c)];
            }
            const double out = get(s.out, (i * value_heads() + r) * dv + c);
            if (std::isinf(log_sum)) CHECK(out == 0.0);
            e.kernel += (out - want) * (out - want);
            e.codec += (want - truth) * (want - truth);
            e.output += want * want;
          }
        }
    return e;
  }
};

/// For tests that are not about codecs.
using batch4 = decode_batch<kv::int4<32>>;
inline void agrees(const batch4& batch, const batch4::filter& listed = {}) {
  const errors e = batch.compare(listed);
  CHECK(e.kernel <= e.codec / 64 + 1e-6 * e.output);
}

}  // namespace test
