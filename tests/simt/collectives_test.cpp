// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "catch.hpp"

#include <cstdint>
#include <vector>

#include <tersekv/backend/cuda/device.cuh>
#include "simt/buffer.hpp"
#include "simt/schedules.hpp"

using namespace tersekv::detail;

namespace collectives_test {

struct arguments {
  int* out;  // [values, 32]
};

__global__ void ask_the_warp(arguments a) {
  const int lane = static_cast<int>(threadIdx.x), value = lane * lane;
  int row = 0;
  const auto put = [&](int x) { a.out[row++ * 32 + lane] = x; };
  put(__shfl_sync(all_lanes, value, 31 - lane));
  put(__shfl_sync(all_lanes, value, 2, 8));
  put(__shfl_xor_sync(all_lanes, value, 5));
  put(__shfl_down_sync(all_lanes, value, 3));
  put(__shfl_up_sync(all_lanes, value, 3, 16));
  put(static_cast<int>(__ballot_sync(all_lanes, lane % 3 == 0)));
  put(__any_sync(all_lanes, lane == 7));
  put(__all_sync(all_lanes, lane == 7));
  put(warp_reduce(lane, [](int x, int y) { return x + y; }));
  put(warp_reduce(
      lane, [](int x, int y) { return max(x, y); }, 4, 2));
  if (lane < 8)
    put(static_cast<int>(__ballot_sync(0xffu, lane < 3)));  // the rest of the warp goes on
  else
    put(-1);
}

int floor_sum(int lane) { return lane / 8 * 8; }

struct counting_arguments {
  std::uint32_t* cells;  // [6]
};

__global__ void count_threads(counting_arguments a) {
  const std::uint32_t id = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(a.cells, 1u);
  atomicMax(a.cells + 1, id);
  atomicMin(a.cells + 2, id);
  atomicOr(a.cells + 3, 1u << id % 32);
  atomicInc(a.cells + 4, 99u);
  if (atomicCAS(a.cells + 5, 0u, 1u) == 0u) atomicAdd(a.cells, 1000u);
}

struct place_arguments {
  unsigned* out;  // [threads of all blocks]
};

__global__ void who_am_i(place_arguments a) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  store(a.out + block * threads + thread, block * 1000 + thread);
}

TEST_CASE("collectives of a warp give each lane its answer", "[simt]") {
  for (const simt::options& schedule : simt::schedules) {
    const simt::with settings(schedule);
    const simt::buffer<int> out(11 * 32, -7);
    launch(ask_the_warp, 1, 32, 0, nullptr, {out.data()});
    const std::vector<int> got = out.host();
    int wrong = 0;
    for (int lane = 0; lane < 32; ++lane) {
      const auto square = [](int x) { return x * x; };
      const int third = 0x49249249, group = lane / 8 * 8 + lane % 2;
      const int expected[] = {square(31 - lane),
                              square(floor_sum(lane) + 2),
                              square(lane ^ 5),
                              square(lane + 3 < 32 ? lane + 3 : lane),
                              square(lane % 16 >= 3 ? lane - 3 : lane),
                              third,
                              1,
                              0,
                              496,
                              group + 6,
                              lane < 8 ? 7 : -1};
      for (int row = 0; row < 11; ++row) wrong += got[static_cast<std::size_t>(row * 32 + lane)] != expected[row];
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("atomics of all blocks add up", "[simt]") {
  for (const simt::options& schedule : simt::schedules) {
    const simt::with settings(schedule);
    const simt::buffer<std::uint32_t> cells(std::vector<std::uint32_t>{0, 0, ~0u, 0, 0, 0});
    launch(count_threads, 5, 48, 0, nullptr, {cells.data()});
    CHECK(cells.host() == std::vector<std::uint32_t>{1240, 239, 0, ~0u, 40, 1});
  }
}

TEST_CASE("threads and blocks have their indices in all three dimensions", "[simt]") {
  const simt::buffer<unsigned> out(2 * 3 * 2 * 4 * 3 * 2, 0u);
  launch(who_am_i, dim3(2, 3, 2), dim3(4, 3, 2), 0, nullptr, {out.data()});
  const auto got = out.host();
  int wrong = 0;
  for (unsigned i = 0; i < got.size(); ++i) wrong += got[i] != i / 24 * 1000 + i % 24;
  CHECK(wrong == 0);
}

}  // namespace collectives_test
