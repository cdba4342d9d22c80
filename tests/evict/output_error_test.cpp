// SPDX-License-Identifier: Apache-2.0
// What eviction may cost: || o_kept - o_full || <= 2 (1 - kept attention mass) max || v ||, for every query and head.
#include "../support.hpp"

#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/random.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace output_error_test {

/// The largest share of the bound that a decoded token uses, over its query heads; checks that none exceeds it.
template <class Policy>
double worst_share(const Policy& policy, unsigned seed) {
  test::stream s({.layers = 1, .query_heads = 8, .kv_heads = 2, .head_dim = 16}, 120, seed);
  auto cache = kv::make_cache(s.shape, kv::cpu{}, kv::dense<float>{}, policy);
  auto chat = cache.open();
  test::feed(cache, chat, s, 119);
  std::vector<std::vector<int>> held{chat.positions(0, 0), chat.positions(0, 1)};
  const auto out = test::feed(cache, chat, s, 1)[0];
  double worst = 0;
  for (int q = 0; q < 8; ++q) {
    const int h = q / 4;
    auto& rows = held[static_cast<std::size_t>(h)];
    if (rows.back() != 119) rows.push_back(119);
    const auto full = test::exact(s, 0, 119, q);
    double top = 0, kept = 0, all = 0;
    for (int p = 0; p < 120; ++p) {
      double logit = 0, norm = 0;
      for (int c = 0; c < 16; ++c) {
        logit += static_cast<double>(s.query(0, 119, q)[c]) * static_cast<double>(s.key(0, p, h)[c]) / 4;
        norm += static_cast<double>(s.value(0, p, h)[c]) * static_cast<double>(s.value(0, p, h)[c]);
      }
      top = std::max(top, std::sqrt(norm));
      all += std::exp(logit);
      if (std::binary_search(rows.begin(), rows.end(), p)) kept += std::exp(logit);
    }
    double difference = 0;
    for (int c = 0; c < 16; ++c) {
      const double d =
          static_cast<double>(out[static_cast<std::size_t>(q * 16 + c)]) - full[static_cast<std::size_t>(c)];
      difference += d * d;
    }
    const double bound = 2 * (1 - kept / all) * top;
    CHECK(std::sqrt(difference) <= bound + 1e-5);
    worst = std::max(worst, std::sqrt(difference) / bound);
  }
  return worst;
}

TEST_CASE("the error of the output is bounded by the attention that left", "[evict]") {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    CHECK(worst_share(kv::h2o{.heavy = 20, .recent = 20}, seed) > 0.01);  // rows did leave
    CHECK(worst_share(kv::random_eviction{.rows = 40, .recent = 4}, seed) > 0.01);
  }
}

}  // namespace output_error_test
