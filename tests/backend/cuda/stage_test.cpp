// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "catch.hpp"

#include <limits>
#include <vector>

#include <tersekv/backend/cuda/stage.cuh>

namespace kv = tersekv;
namespace kd = tersekv::detail;

namespace {

/// Heads first in the engine's memory, with gaps; tokens first in the staging area. Two arrays in one launch.
template <class T>
void copies(kd::element type, float strange) {
  constexpr int n = 5, heads = 3, dims[2] = {37, 20}, padded = 40;
  std::vector<T> from[2], to[2];
  std::vector<kd::rows_to_stage> arrays;
  for (int a = 0; a < 2; ++a) {
    from[a].resize(heads * n * padded), to[a].resize(static_cast<std::size_t>(n * heads * dims[a]));
    for (std::size_t i = 0; i < from[a].size(); ++i)
      from[a][i] = kv::from_float<T>(static_cast<float>((i + static_cast<std::size_t>(a)) % 101) - 50.0f);
    arrays.push_back(
        {{from[a].data(), type, padded, n * padded}, {to[a].data(), type, heads * dims[a], dims[a]}, dims[a]});
  }
  const auto number = [&](int a, int token, int head) -> T* {
    return from[a].data() + arrays[static_cast<std::size_t>(a)].from.at(token, head);
  };
  int faults[2] = {kd::no_fault, kd::no_fault};
  kd::stage_rows({arrays[0], arrays[1]}, n, heads, faults, nullptr);
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
  kd::stage_rows({arrays[0], arrays[1]}, n, heads, faults, nullptr);
  CHECK(faults[0] == 2 * heads + 1);
  CHECK(faults[1] == 3 * heads + 2);
  number(1, 0, 1)[0] = kv::from_float<T>(strange);
  kd::stage_rows({{arrays[1].from, {nullptr, type, 0, 0}, dims[1]}}, n, heads, faults, nullptr);  // only looked at
  CHECK(faults[0] == 1);
  CHECK(faults[1] == 3 * heads + 2);
  kd::stage_rows({arrays[0]}, 0, heads, faults, nullptr);
}

}  // namespace

TEST_CASE("an engine's rows are copied, and numbers that are not finite are found", "[stage]") {
  for (const float strange : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    copies<float>(kd::element::f32, strange);
    copies<kv::half>(kd::element::f16, strange);
    copies<kv::bfloat16>(kd::element::bf16, strange);
  }
}
