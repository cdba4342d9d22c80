// SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <vector>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/backend/cuda/launch.cuh>

using namespace tersekv::detail;

namespace {

struct sum_arguments {
  const float* in;  // [n]
  int n;
  float* out;  // [1]
};
using sum_layout = shared_layout<region<float, 4>>;

__global__ void sum(sum_arguments a) {
  float mine = 0;
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(a.n); i += blockDim.x) mine += a.in[i];
  mine = warp_reduce(mine, [](float x, float y) { return x + y; });
  float* of_warp = sum_layout::get<0>();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x == 0) *a.out = of_warp[0] + of_warp[1] + of_warp[2] + of_warp[3];
}

}  // namespace

TEST_CASE("a block adds numbers, whatever the order of its threads", "[simt]") {
  const std::vector<float> in(1000, 1.0f);
  for (const auto schedule : {simt::order::fifo, simt::order::lifo, simt::order::random}) {
    const simt::with settings({.schedule = schedule});
    float out = 0;
    launch(sum, 1, 128, sum_layout::bytes, nullptr, {in.data(), 1000, &out});
    CHECK(out == 1000.0f);
  }
}
