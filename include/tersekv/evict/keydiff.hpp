// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/keydiff.hpp
//
// keydiff: keep the keys that point elsewhere than most keys do.
//
// Paper     Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in
//           Resource-Constrained Environments", arXiv:2504.15364
// Formula   a = mean_j k_j / ||k_j||;  s_j = -cos(k_j, a)
//           keep = top(s) and the `recent` newest rows, `rows` in all
// Shapes    s [kv_heads, n] f32     k [kv_heads, n, d]     a [kv_heads, d]
// Differs   a block of the paper is a prompt chunk that the engine marks `more`, or one token of decoding; the paper
//           protects no recent rows
// Cost      no state; every trim decodes the keys of the head: 2 n d products
// Needs     readable keys
// With      lossy codecs: keys are compared as they are read back
#pragma once
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

struct keydiff_on_device;  // keydiff.cuh

struct keydiff {
  using role = tersekv::role::evict;
  using needs = tersekv::list<fact::readable_keys>;
  using provides = tersekv::list<fact::comparable_scores>;
  static constexpr std::string_view name = "keydiff";
  static constexpr int columns = 0;
  using on_device = keydiff_on_device;

  int rows = 512;   // kept, the recent ones included   [rows]
  int recent = 32;  // newest rows, always kept         [rows]
  trigger when = every_chunk;

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
    f("recent", recent);
  }

  void score(const scored_head& head, std::span<float> out) const {
    const auto dim = static_cast<std::size_t>(head.key_dim);
    const auto key = [&](std::size_t j) { return head.keys.data() + j * dim; };
    std::vector<double> anchor(dim, 0.0), norm(out.size());  // the sum of unit keys: only its direction counts
    for (std::size_t j = 0; j < out.size(); ++j) {
      norm[j] = std::sqrt(dot(key(j), key(j), dim));
      if (!(norm[j] > 0)) continue;  // a zero key has no direction
      const double inverse = 1 / norm[j];
      for (std::size_t c = 0; c < dim; ++c) anchor[c] += static_cast<double>(key(j)[c]) * inverse;
    }
    const double length = std::sqrt(dot(anchor.data(), anchor.data(), dim));
    for (std::size_t j = 0; j < out.size(); ++j) {
      const double norms = norm[j] * length;
      out[j] = norms > 0 ? static_cast<float>(-dot(key(j), anchor.data(), dim) / norms) : 0.0f;
    }
  }
  TERSEKV_HD protection protects(row r) const { return r.age < recent ? protection::recent : protection::none; }
  int budget() const { return rows; }
  void check() const {
    if (rows < 1 || recent < 0 || recent > rows)
      throw shape_error("tersekv::keydiff: rows " + std::to_string(rows) + ", recent " + std::to_string(recent) +
                        "; rows is >= 1 and recent between 0 and rows");
  }

 private:
  /// Several sums side by side, which compilers make vectors of.
  template <class A, class B>
  static double dot(const A* a, const B* b, std::size_t n) {
    constexpr std::size_t lanes = 8;
    double part[lanes] = {}, sum = 0;
    std::size_t c = 0;
    for (; c + lanes <= n; c += lanes)
      for (std::size_t i = 0; i < lanes; ++i) part[i] += static_cast<double>(a[c + i]) * static_cast<double>(b[c + i]);
    for (; c < n; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
    for (const double x : part) sum += x;
    return sum;
  }
};

}  // namespace tersekv
