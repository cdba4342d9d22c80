// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "catch.hpp"

#include <limits>
#include <vector>

#include <tersekv/backend/cuda/stage.cuh>

namespace kv = tersekv;
namespace kd = tersekv::detail;

namespace stage_test {

/// Heads first in the engine's memory, with gaps; tokens first in the staging area. Two arrays in one launch.
template <class T>
void copies(kd::element type, float strange) {
  constexpr int n = 5, heads = 3, dims[2] = {37, 20}, padded = 40;
  std::vector<T> from[2], to[2];
  std::vector<kd::rows_to_stage> arrays;
  const kd::stage_shape both{1, n, heads, dims[0], dims[1], type}, second{1, n, heads, dims[1], 0, type};
  for (int a = 0; a < 2; ++a) {
    from[a].resize(heads * n * padded), to[a].resize(static_cast<std::size_t>(n * heads * dims[a]));
    for (std::size_t i = 0; i < from[a].size(); ++i)
      from[a][i] = kv::from_float<T>(static_cast<float>((i + static_cast<std::size_t>(a)) % 101) - 50.0f);
    arrays.push_back({{from[a].data(), type, padded, n * padded}, {to[a].data(), type, heads * dims[a], dims[a]}});
  }
  const auto number = [&](int a, int token, int head) -> T* {
    return from[a].data() + arrays[static_cast<std::size_t>(a)].from.at(token, head);
  };
  int faults[2] = {kd::no_fault, kd::no_fault};
  kd::stage_rows(both, kd::step_to_stage{arrays[0], arrays[1], n, faults}, nullptr);
  CHECK(faults[0] == kd::no_fault);
  CHECK(faults[1] == kd::no_fault);
  for (int a = 0; a < 2; ++a) {
    bool same = true;
    for (int t = 0; t < n; ++t)
      for (int h = 0; h < heads; ++h)
        for (int c = 0; c < dims[a]; ++c)
          same = same && kv::to_float(to[a][static_cast<std::size_t>((t * heads + h) * dims[a] + c)]) ==
                             kv::to_float(number(a, t, h)[c]);
    CHECK(same);
  }
  number(0, 4, 0)[2] = kv::from_float<T>(strange);
  number(0, 2, 1)[36] = kv::from_float<T>(-strange);
  number(0, 1, 0)[37] = kv::from_float<T>(strange);  // in a gap
  number(1, 3, 2)[19] = kv::from_float<T>(strange);
  kd::stage_rows(both, kd::step_to_stage{arrays[0], arrays[1], n, faults}, nullptr);
  CHECK(faults[0] == 2 * heads + 1);
  CHECK(faults[1] == 3 * heads + 2);
  number(1, 0, 1)[0] = kv::from_float<T>(strange);
  kd::stage_rows(second, kd::step_to_stage{{arrays[1].from, {}}, {}, n, faults}, nullptr);  // only looked at
  CHECK(faults[0] == 1);
  CHECK(faults[1] == 3 * heads + 2);
  kd::stage_rows(both, kd::step_to_stage{arrays[0], arrays[1], n, nullptr}, nullptr);  // nobody asks
}

TEST_CASE("steps of a batch are staged in one launch, whatever their tokens", "[stage]") {
  constexpr int heads = 2, dims[2] = {40, 24}, tokens[3] = {1, 7, 3};
  std::vector<std::vector<float>> from, to;  // [steps, keys | values]
  int faults[3][2];
  std::vector<kd::step_to_stage> batch;
  for (int s = 0; s < 3; ++s) {
    kd::rows_to_stage both[2];
    for (int a = 0; a < 2; ++a) {
      faults[s][a] = kd::no_fault;
      from.emplace_back(static_cast<std::size_t>(tokens[s] * heads * dims[a]));
      to.emplace_back(from.back().size());
      for (std::size_t i = 0; i < from.back().size(); ++i) from.back()[i] = static_cast<float>(100 * s + 10 * a) + 1;
      both[a] = {{from.back().data(), kd::element::f32, heads * dims[a], dims[a]},
                 {to.back().data(), kd::element::f32, heads * dims[a], dims[a]}};
    }
    batch.push_back({both[0], both[1], tokens[s], faults[s]});
  }
  from[2].back() = std::numeric_limits<float>::infinity();  // keys of the second step: its last row
  kd::stage_rows({3, 7, heads, dims[0], dims[1], kd::element::f32}, batch.data(), nullptr);
  CHECK(from == to);
  for (int s = 0; s < 3; ++s)
    for (int a = 0; a < 2; ++a) CHECK(faults[s][a] == (s == 1 && a == 0 ? 13 : kd::no_fault));

  kd::fault_words words{{}, 2, nullptr};
  int least[3];
  words.least = least;
  for (int s = 0; s < 3; ++s) words.steps[s] = faults[s];
  kd::least_faults(words, 3, nullptr);
  CHECK(least[0] == kd::no_fault);
  CHECK(least[1] == 13);
  CHECK(least[2] == kd::no_fault);
}

TEST_CASE("an engine's rows are copied, and numbers that are not finite are found", "[stage]") {
  for (const float strange : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    copies<float>(kd::element::f32, strange);
    copies<kv::half>(kd::element::f16, strange);
    copies<kv::bfloat16>(kd::element::bf16, strange);
  }
}

}  // namespace stage_test
