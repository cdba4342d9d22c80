// SPDX-License-Identifier: Apache-2.0
// How often a decoded token asks the device for something. Attention of a layer over 8k rows of int4 takes some 5 us,
// and a launch 2 to 3, so one launch more per layer is a third of the speed.
#include <tersekv/backend/cuda.cuh>

#include "../../support.hpp"

#include "../../catch.hpp"

#if defined(TERSEKV_SIMT)  // which counts
namespace kv = tersekv;

namespace {

/// Launches, memsets and copies of one token of 32 layers, while nothing grows.
template <class... Ps>
int requests_of_a_token(Ps... policies) {
  test::stream s({.layers = 32, .query_heads = 2, .kv_heads = 1, .head_dim = 64}, 60, 11);
  auto cache = kv::make_cache(s.shape, kv::cuda{}, policies...);
  auto chat = cache.open();
  test::feed(cache, chat, s, 40);
  std::vector<float> out(128);
  const auto token = [&] {
    const int before = simt::requested().all(), at = chat.length();
    auto step = chat.step(1);
    for (int l = 0; l < 32; ++l) {
      step.append(l, s.keys(0, at % 2, 1), s.values(0, at % 2, 1));
      step.attend(l, s.queries(0, 0, 1), kv::view(out.data(), 1, 2, 64));
    }
    step.commit();
    return simt::requested().all() - before;
  };
  for (int i = 0; i < 3; ++i) token();
  int most = 0;
  for (int i = 0; i < 4; ++i) {
    const int n = token();
    most = std::max(most, n);
  }
  return most;
}

}  // namespace

TEST_CASE("a decoded token asks the device for little beside attention", "[cuda]") {
  CHECK(requests_of_a_token() <= 105);
  CHECK(requests_of_a_token(kv::int4<>{}) <= 105);
  CHECK(requests_of_a_token(kv::h2o{.heavy = 16, .recent = 8}, kv::int4<>{}) <= 140);
  CHECK(requests_of_a_token(kv::snapkv{.rows = 24, .window = 8}, kv::int4<>{}) <= 137);
}
#endif
