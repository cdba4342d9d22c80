// SPDX-License-Identifier: Apache-2.0
// Words that say which row had a number that is not finite: kernels write them, the host reads them at commit.
#pragma once
#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/backend/cuda/launch.cuh>

namespace tersekv::detail {

/// What a word holds while every row is finite; memset with bytes of 0x7f writes it. Otherwise token * heads + head of
/// the first row, which is less.
inline constexpr int no_fault = 0x7f7f7f7f;

/// The words of a batch of steps.
struct fault_words {
  static constexpr int most = 256;
  const int* steps[most];  // [words] of each
  int words;
  int* least;  // [steps]
};
/// One warp per step.
template <int = 0>
__global__ void least_faults_kernel(const fault_words a) {
  const int* words = a.steps[blockIdx.x];
  int least = no_fault;
  for (int i = static_cast<int>(threadIdx.x); i < a.words; i += 32) least = words[i] < least ? words[i] : least;
  least = warp_reduce(least, [](int x, int y) { return x < y ? x : y; });
  if (threadIdx.x == 0) a.least[blockIdx.x] = least;
}
/// least[i] = the least of the words of step i < count <= most: one word says whether a step is free of faults.
inline void least_faults(const fault_words& a, int count, cuda_stream stream) {
  launch(least_faults_kernel<>, static_cast<unsigned>(count), 32, 0, stream, a);
}

}  // namespace tersekv::detail
