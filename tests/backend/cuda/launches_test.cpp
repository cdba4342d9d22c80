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
int requests_of_a_token(const kv::cuda& device, Ps... policies) {
  test::stream s({.layers = 32, .query_heads = 2, .kv_heads = 1, .head_dim = 64}, 60, 11);
  auto cache = kv::make_cache(s.shape, device, policies...);
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
  for (int i = 0; i < 4; ++i) most = std::max(most, token());
  return most;
}

}  // namespace

TEST_CASE("a decoded token asks the device for little beside attention", "[cuda]") {
  // 1 append and 2 of attention per layer; faults are filled and read, rows applied
  CHECK(requests_of_a_token({}) <= 3 * 32 + 3);
  CHECK(requests_of_a_token({}, kv::int4<>{}) <= 3 * 32 + 3);
  CHECK(requests_of_a_token({}, kv::snapkv{.rows = 24, .window = 8}, kv::int4<>{}) <= 3 * 32 + 3);
  // masses too; observe, list, select, recycle
  const kv::h2o h2o{.heavy = 16, .recent = 8};
  CHECK(requests_of_a_token({}, h2o, kv::int4<>{}) <= 4 * 32 + 3 + 4);
  kv::cuda small;
  small.scratch_bytes = 1000;  // then slots pass one by one, by observe, list, select and apply
  CHECK(requests_of_a_token(small, h2o, kv::int4<>{}) == 4 * 32 + 3 + 4 + 31 * 4);
}
#endif
