// SPDX-License-Identifier: Apache-2.0
// What the card can do at best: copying, reading, multiplying.
#pragma once
#include "graph.hpp"

#include <tersekv/backend/cuda/device.cuh>

namespace bench {

struct read_arguments {
  const uint4* words;
  std::size_t count;
  unsigned* sink;
};

template <int Threads>
__global__ void __launch_bounds__(Threads) read_all_words(read_arguments a) {
  constexpr int at_once = 8;
  const std::size_t all = std::size_t{gridDim.x} * Threads;
  unsigned sum = 0;
  for (std::size_t i = std::size_t{blockIdx.x} * Threads + threadIdx.x; i < a.count; i += at_once * all) {
    uint4 x[at_once];
    TERSEKV_UNROLL
    for (int k = 0; k < at_once; ++k)
      x[k] = i + k * all < a.count ? tersekv::detail::load_once(a.words + i + k * all) : uint4{};
    TERSEKV_UNROLL
    for (int k = 0; k < at_once; ++k) sum += x[k].x ^ x[k].y ^ x[k].z ^ x[k].w;
  }
  if (sum == 1) *a.sink = sum;  // never, but the compiler does not know
}

/// Memory far larger than L2, to be copied and to be read.
class memory_traffic {
 public:
  explicit memory_traffic(std::size_t l2)
      : half_(std::max(8 * l2, std::size_t{256} << 20) / 4096 * 4096), memory_(2 * half_), sink_(4) {
    TERSEKV_CUDA(cudaMemsetAsync(memory_.as<char>(), 0, 2 * half_, stream()));
    int device = 0, multiprocessors = 0;
    TERSEKV_CUDA(cudaGetDevice(&device));
    TERSEKV_CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
    blocks_ = static_cast<unsigned>(4 * multiprocessors);
  }
  std::unique_ptr<graph> copy() const {
    return std::make_unique<graph>(steps, [this](int) {
      TERSEKV_CUDA(
          cudaMemcpyAsync(memory_.as<char>() + half_, memory_.as<char>(), half_, cudaMemcpyDeviceToDevice, stream()));
    });
  }
  std::unique_ptr<graph> read() const {
    return std::make_unique<graph>(steps, [this](int) {
      tersekv::detail::launch(read_all_words<512>, dim3(blocks_), dim3(512), 0, stream(),
                              {memory_.as<uint4>(), 2 * half_ / 16, sink_.as<unsigned>()});
    });
  }
  /// GB/s of either.
  double rate(const timing& t) const { return 2e-3 * static_cast<double>(half_) / t.us; }

 private:
  static constexpr int steps = 8;  // of 512 MB or more
  std::size_t half_;
  device_memory memory_, sink_;
  unsigned blocks_ = 0;
};

}  // namespace bench
