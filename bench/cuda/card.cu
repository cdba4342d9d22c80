// SPDX-License-Identifier: Apache-2.0
#include "card.cuh"

#include "session.hpp"

namespace bench {
namespace {

struct multiply_arguments {
  float* sink;
  int repeats;
};

/// Products of fragments that stay in registers: eight sums per warp, so that none waits for itself.
template <int Sums>
__global__ void __launch_bounds__(256) multiply_only(multiply_arguments a) {
  float sums[Sums][4] = {};
  const std::uint32_t left[4] = {threadIdx.x, 1, 2, 3}, right[2] = {threadIdx.x, 1};
  for (int i = 0; i < a.repeats; ++i) TERSEKV_UNROLL
  for (int s = 0; s < Sums; ++s) tersekv::detail::mma_half(sums[s], left, right);
  float sum = 0;
  TERSEKV_UNROLL
  for (int s = 0; s < Sums; ++s) sum += sums[s][0] + sums[s][1] + sums[s][2] + sums[s][3];
  if (sum == 1.5f) *a.sink = sum;
}

struct spin_arguments {
  long long cycles;
};
__global__ void spin(spin_arguments a) {
  for (const long long begin = clock64(); clock64() - begin < a.cycles;) {
  }
}

}  // namespace

bool fits(session& s, std::size_t bytes, const std::string& recipe, const std::string& part) {
  std::size_t free = 0, total = 0;
  TERSEKV_CUDA(cudaMemGetInfo(&free, &total));
  if (bytes <= free / 10 * 9) return true;
  s.note("`" + recipe + "` was left out at " + part + ": " + std::to_string(bytes >> 20) + " MiB");
  return false;
}

void keep_busy(double us) {
  constexpr double cycles = 2000;  // of a microsecond: cards run at 1.4 to 2.6 GHz
  tersekv::detail::launch(spin, dim3(1), dim3(1), 0, stream(), {static_cast<long long>(cycles * us)});
}

gpu measure_gpu(int rounds) {
  cudaDeviceProp p;
  TERSEKV_CUDA(cudaGetDeviceProperties(&p, 0));
  gpu card;
  card.name = p.name, card.major = p.major, card.minor = p.minor, card.multiprocessors = p.multiProcessorCount;
  card.memory = p.totalGlobalMem, card.l2 = static_cast<std::size_t>(p.l2CacheSize);
  card.compiler = "nvcc " + std::to_string(__CUDACC_VER_MAJOR__) + "." + std::to_string(__CUDACC_VER_MINOR__);
  TERSEKV_CUDA(cudaDriverGetVersion(&card.driver));

  const memory_traffic traffic(card.l2);
  const device_memory sink(4);
  constexpr int repeats = 4096;
  const auto blocks = static_cast<unsigned>(4 * p.multiProcessorCount);
  std::vector<std::unique_ptr<graph>> all;
  all.push_back(traffic.copy());
  all.push_back(traffic.read());
  all.push_back(std::make_unique<graph>(1, [&](int) {
    tersekv::detail::launch(multiply_only<8>, dim3(blocks), dim3(256), 0, stream(), {sink.as<float>(), repeats});
  }));
  const auto t = in_turn(all, rounds);
  card.copy = traffic.rate(t[0]), card.read = traffic.rate(t[1]);
  card.tensor = 1e-6 * blocks * (256.0 / 32) * repeats * 8 * (2 * 16 * 8 * 16) / t[2].us;
  return card;
}

}  // namespace bench
