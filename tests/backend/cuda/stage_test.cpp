// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "catch.hpp"

#include <limits>
#include <vector>

#include <tersekv/backend/cuda/stage.cuh>

namespace kv = tersekv;
namespace kd = tersekv::detail;

namespace {

/// Heads first in the engine's memory, with gaps; tokens first in the staging area.
template <class T>
void copies(kd::element type, float strange) {
  constexpr int n = 5, heads = 3, dim = 37, padded = 40;
  std::vector<T> from(heads * n * padded), to(n * heads * dim);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = kv::from_float<T>(static_cast<float>(i % 101) - 50.0f);
  const kd::device_array engine{from.data(), type, padded, n * padded}, staged{to.data(), type, heads * dim, dim};
  int fault = kd::no_fault;
  kd::stage_rows(engine, staged, n, heads, dim, &fault, nullptr);
  CHECK(fault == kd::no_fault);
  bool same = true;
  for (int t = 0; t < n; ++t)
    for (int h = 0; h < heads; ++h)
      for (int c = 0; c < dim; ++c)
        same = same && kv::to_float(to[static_cast<std::size_t>(staged.at(t, h) + c)]) ==
                           kv::to_float(from[static_cast<std::size_t>(engine.at(t, h) + c)]);
  CHECK(same);
  from[static_cast<std::size_t>(engine.at(4, 0) + 2)] = kv::from_float<T>(strange);
  from[static_cast<std::size_t>(engine.at(2, 1) + 36)] = kv::from_float<T>(-strange);
  from[static_cast<std::size_t>(engine.at(1, 0) + 37)] = kv::from_float<T>(strange);  // in a gap
  kd::stage_rows(engine, staged, n, heads, dim, &fault, nullptr);
  CHECK(fault == 2 * heads + 1);
  kd::stage_rows(engine, staged, 0, heads, dim, &fault, nullptr);
}

}  // namespace

TEST_CASE("an engine's rows are copied, and numbers that are not finite are found", "[stage]") {
  for (const float strange : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    copies<float>(kd::element::f32, strange);
    copies<kv::half>(kd::element::f16, strange);
    copies<kv::bfloat16>(kd::element::bf16, strange);
  }
}
