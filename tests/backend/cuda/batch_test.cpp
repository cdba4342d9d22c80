// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
// Steps that attend as a batch: what they give is what each gives alone, on both backends.
#include <tersekv/backend/cuda.cuh>

#include "../../support.hpp"

#include "../../catch.hpp"

namespace kv = tersekv;

namespace {

/// Sequences of different lengths, then two tokens each, attended together by one cache and alone by another.
template <class Backend, class... Ps>
void together_as_alone(Ps... policies) {
  test::stream s({.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64}, 120, 5);
  auto one = kv::make_cache(s.shape, Backend{}, policies...);
  auto other = kv::make_cache(s.shape, Backend{}, policies...);
  std::vector<typename decltype(one)::sequence_type> a, b;
  for (const int prompt : {70, 1, 33}) {
    a.push_back(one.open()), b.push_back(other.open());
    test::feed(one, a.back(), s, prompt), test::feed(other, b.back(), s, prompt);
  }
  using step = typename decltype(one)::step_type;
  const std::size_t floats = 4 * 64;
  for (int token = 0; token < 2; ++token) {
    std::vector<std::unique_ptr<step>> steps;
    std::vector<step*> batch;
    std::vector<std::vector<float>> got(a.size(), std::vector<float>(floats));
    for (auto& sequence : a) {
      steps.push_back(std::make_unique<step>(sequence, 1, kv::step_options{}));
      batch.push_back(steps.back().get());
    }
    std::vector<std::vector<std::vector<float>>> alone;
    for (auto& sequence : b) alone.push_back(test::feed(other, sequence, s, 1));
    for (int layer = 0; layer < 2; ++layer) {
      std::vector<kv::view> q, out;
      for (std::size_t i = 0; i < a.size(); ++i) {
        const int at = a[i].length();
        batch[i]->append(layer, s.keys(layer, at, 1), s.values(layer, at, 1));
        q.push_back(s.queries(layer, at, 1));
        out.emplace_back(got[i].data(), 1, 4, 64);
      }
      kv::attend(batch, layer, q, out);
      for (std::size_t i = 0; i < a.size(); ++i) {
        CAPTURE(token, layer, i);
        CHECK(test::relative_error(got[i].data(), alone[i][static_cast<std::size_t>(layer)].data(), 256) < 1e-5);
      }
    }
    for (step* each : batch) each->commit();
  }
  std::vector<step*> none;
  std::vector<kv::view> q(1, s.queries(0, 0, 1));
  CHECK_THROWS_AS(kv::attend(none, 0, q, {}), kv::shape_error);
}

}  // namespace

TEST_CASE("a batch of steps attends as each step alone", "[cuda]") {
  together_as_alone<kv::cpu>(kv::int4<>{});
  together_as_alone<kv::cuda>(kv::int4<>{});
}
TEST_CASE("recipes that take signals attend one step after the other", "[cuda]") {
  together_as_alone<kv::cuda>(kv::h2o{.heavy = 16, .recent = 16}, kv::int8<>{});
}
