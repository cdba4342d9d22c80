// SPDX-License-Identifier: Apache-2.0
// tersekv/read/quest.hpp
//
// quest: keep all rows, and read the pages whose keys could attract the query most.
//
// Paper     Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", ICML 2024,
//           arXiv:2406.10774
// Formula   u_p = sum_d max(q_d min_{p,d}, q_d max_{p,d}) >= q k_j for every row j of page p
//           read = the ceil(rows / page) pages with the largest u, the newest page among them
// Shapes    q [query_heads, d]     min, max [kv_heads, pages, d] f16
// Differs   query heads that share a KV head read the same pages, by their largest u; the paper's code knows no
//           sharing. Pages have 32 rows or a multiple that fits the codec's groups, the paper's 16. Rows that are not
//           packed (window, sinks, the step's own) are always read, and do not count. Every layer selects; the paper
//           reads the first two in full. A layer that sees a window only spends its pages on all rows all the same
// Cost      4 bytes per channel and page, on the CPU 2.3 more for all pages of a head together, in 8 bits; per query
//           2 d products per page
// Needs     nothing
// With      steps of one token; longer steps read everything. Minimum and maximum are of the keys as the codec reads
//           them back, and stay bounds (looser ones) when rows of a page leave. Rows that are not read attract no mass
#pragma once
#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

#include <tersekv/number.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

struct quest_on_device;  // quest.cuh

struct quest {
  using role = tersekv::role::read;
  static constexpr std::string_view name = "quest";
  static constexpr bool selects = true;
  using on_device = quest_on_device;

  int rows = 1024;  // to be read, rounded up to pages   [rows]

  template <class F>
  void tuning(F&& f) {
    f("rows", rows);
  }

  std::size_t bytes(int key_dim) const { return 2 * sizeof(half) * static_cast<std::size_t>(key_dim); }
  /// summary: min [key_dim], then max [key_dim], rounded outwards.
  void summarize(std::byte* summary, const float* keys, int count, int key_dim, bool fresh) const {
    for (int r = 0; r < count; ++r, fresh = false)
      for (int c = 0; c < key_dim; ++c) add(summary, key_dim, c, keys[r * key_dim + c], fresh);
  }
  /// The same for one channel of one row.
  TERSEKV_HD static void add(std::byte* summary, int key_dim, int c, float x, bool fresh) {
    half* least = reinterpret_cast<half*>(summary) + c;
    half* most = least + key_dim;
    if (fresh || x < to_float(*least)) *least = not_above(x);
    if (fresh || x > to_float(*most)) *most = not_below(x);
  }
  /// The largest u_p over queries [count, stride].
  float bound(const float* queries, int count, int stride, const std::byte* summary, int key_dim) const {
    constexpr int lanes = 16, piece = 256, some = 32;  // channels and queries at a time
    constexpr float finite = std::numeric_limits<float>::max();
    const half* least = reinterpret_cast<const half*>(summary);
    const half* most = least + key_dim;
    float best = -std::numeric_limits<float>::infinity();
    for (int first = 0; first < count; first += some) {
      const int n_queries = std::min(some, count - first);
      float total[some] = {};
      for (int c0 = 0; c0 < key_dim; c0 += piece) {
        const int n = std::min(piece, key_dim - c0), whole = n / lanes * lanes;
        float low[piece], high[piece];
        widen(least + c0, n, low);
        widen(most + c0, n, high);
        for (int c = 0; c < n; ++c) {  // beyond 16 bit bounds are infinite, and zero times that is not a number
          low[c] = low[c] > -finite ? low[c] : -finite;
          high[c] = high[c] < finite ? high[c] : finite;
        }
        for (int i = 0; i < n_queries; ++i) {
          const float* q = queries + (first + i) * stride + c0;
          float sum[lanes] = {};
          for (int c = 0; c < whole; c += lanes)
            for (int j = 0; j < lanes; ++j) {
              const float x = q[c + j] * low[c + j], y = q[c + j] * high[c + j];
              sum[j] += x > y ? x : y;
            }
          for (int c = whole; c < n; ++c) sum[0] += std::max(q[c] * low[c], q[c] * high[c]);
          for (const float x : sum) total[i] += x;
        }
      }
      for (int i = 0; i < n_queries; ++i) best = std::max(best, total[i]);
    }
    return best;
  }
  /// What bounds are made of; infinite where keys are beyond 16 bit.
  void extremes(const std::byte* summary, int key_dim, float* least, float* most) const {
    const half* first = reinterpret_cast<const half*>(summary);
    widen(first, key_dim, least);
    widen(first + key_dim, key_dim, most);
  }
  int pages(int page_rows) const { return std::max(1, rows / page_rows + (rows % page_rows != 0)); }
  void check() const {
    if (rows < 1) throw shape_error("tersekv::quest: rows " + std::to_string(rows) + ", must be >= 1");
  }

 private:
  /// The smallest half that is not below x.
  TERSEKV_HD static half not_below(float x) {
    half h = from_float<half>(x);
    if (to_float(h) < x) h.bits = static_cast<std::uint16_t>(h.bits + ((h.bits & 0x8000u) ? -1 : 1));
    return h;
  }
  TERSEKV_HD static half not_above(float x) {
    half h = not_below(-x);
    h.bits ^= 0x8000u;
    return h;
  }
};

}  // namespace tersekv
