// SPDX-License-Identifier: Apache-2.0
// Small things that the host tells the device, as arguments of kernels: in order of the stream, without waiting, and
// kept by a captured graph.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/backend/cuda/launch.cuh>

namespace tersekv::detail {

struct write_arguments {
  static constexpr int most = 4080;  // with the others 4 KB, what arguments may take on any device
  std::byte* to;
  int count;
  std::byte bytes[most];
};
static_assert(sizeof(write_arguments) <= 4096);
template <int = 0>
__global__ void write_kernel(const write_arguments a) {
  for (int i = static_cast<int>(threadIdx.x); i < a.count; i += static_cast<int>(blockDim.x)) a.to[i] = a.bytes[i];
}
/// to[0 .. bytes) in device memory = from, which may be reused at once. Meant for a few kilobytes.
inline void write_bytes(void* to, const void* from, std::size_t bytes, cuda_stream stream) {
  write_arguments a;
  for (std::size_t first = 0; first < bytes; first += write_arguments::most) {
    a.to = static_cast<std::byte*>(to) + first;
    a.count = static_cast<int>(std::min(bytes - first, std::size_t{write_arguments::most}));
    std::memcpy(a.bytes, static_cast<const std::byte*>(from) + first, static_cast<std::size_t>(a.count));
    launch(write_kernel<>, 1, 128, 0, stream, a);
  }
}

}  // namespace tersekv::detail
