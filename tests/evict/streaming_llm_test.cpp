// SPDX-License-Identifier: Apache-2.0
#include <tersekv/evict/streaming_llm.hpp>

#include <tersekv/evict/h2o.hpp>

#include "golden/eviction_fixture.hpp"
#include "laws/evictor.hpp"

namespace kv = tersekv;

TEST_CASE("streaming_llm obeys the laws of eviction", "[evict]") {
  laws::evictor(kv::streaming_llm{.sinks = 4, .recent = 8});
}

TEST_CASE("streaming_llm keeps the sinks and the newest rows", "[evict]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8};
  test::stream s(shape, 60);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::streaming_llm{.sinks = 2, .recent = 3});
  auto prompt = cache.open(), decoded = cache.open();
  test::feed(cache, prompt, s, 8);
  for (int t = 0; t < 8; ++t) test::feed(cache, decoded, s, 1);
  CHECK(prompt.positions(0, 0) == std::vector<int>{0, 1, 5, 6, 7});
  CHECK(decoded.positions(0, 0) == std::vector<int>{0, 1, 5, 6, 7});
  const auto a = test::feed(cache, prompt, s, 1), b = test::feed(cache, decoded, s, 1);
  const auto n = static_cast<int>(a[0].size());
  CHECK(test::relative_error(a[0].data(), b[0].data(), n) < 1e-6);  // dead rows lie elsewhere, and sums round anew
  CHECK(prompt.positions(0, 0) == std::vector<int>{0, 1, 6, 7, 8});
}

TEST_CASE("streaming_llm is dense attention until sinks and window are full", "[evict]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 8};
  test::stream s(shape, 60);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, kv::streaming_llm{.sinks = 10, .recent = 50});
  auto dense = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{});
  auto a = cache.open();
  auto b = dense.open();
  for (int t = 0; t < 60; t += t == 0 ? 20 : 1) {
    const int n = t == 0 ? 20 : 1;
    CHECK(test::feed(cache, a, s, n) == test::feed(dense, b, s, n));  // bit for bit
  }
  CHECK(a.rows(0, 0) == 60);
}

TEST_CASE("a budget below sinks and window gives up the oldest recent rows first", "[evict]") {
  kv::trim_context context{.seen = 20};
  for (const int budget : {7, 4, 2}) {
    kv::trim_head head;
    for (int p = 0; p < 20; ++p) head.position.push_back(p);
    struct tight : kv::streaming_llm {
      int rows = 0;
      int budget() const { return rows; }
    } policy{{.sinks = 3, .recent = 10}, budget};
    kv::decide(policy, kv::uniform{}, context, std::span<kv::trim_head>(&head, 1), true);
    std::vector<int> kept;
    for (int p = 0; p < 20; ++p)
      if (head.keep[static_cast<std::size_t>(p)]) kept.push_back(p);
    const std::vector<int> want = budget == 7   ? std::vector<int>{0, 1, 2, 16, 17, 18, 19}
                                  : budget == 4 ? std::vector<int>{0, 1, 2, 19}
                                                : std::vector<int>{1, 2};
    CHECK(kept == want);
  }
}

TEST_CASE("streaming_llm without sinks is h2o without heavy rows", "[evict]") {
  CHECK(golden::kept(kv::streaming_llm{.sinks = 0, .recent = 9}) == golden::kept(kv::h2o{.heavy = 0, .recent = 9}));
}

TEST_CASE("streaming_llm refuses sizes that keep nothing", "[evict]") {
  for (const auto& wrong : {kv::streaming_llm{.sinks = -1, .recent = 5}, kv::streaming_llm{.sinks = 5, .recent = -1},
                            kv::streaming_llm{.sinks = 0, .recent = 0}})
    CHECK_THROWS_AS(kv::make_cache(golden::shape, kv::cpu{}, kv::dense<float>{}, wrong), kv::shape_error);
}
