// SPDX-License-Identifier: Apache-2.0
// The one way in which the library starts kernels.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include <tersekv/backend/cuda/stream.hpp>
#include <tersekv/backend/cuda/target.cuh>
#if defined(TERSEKV_SIMT)
#include "simt/launch.hpp"
#endif

namespace tersekv::detail {

#if !defined(TERSEKV_SIMT)
/// Throws cuda_error where the runtime reports a failure of `call`.
inline void cuda_check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw cuda_error(call, code, cudaGetErrorString(code));
}

/// Lets `kernel` have so many bytes of shared memory on the current device. The runtime is asked only once for each.
inline void allow_shared(const void* kernel, std::size_t bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, std::size_t> allowed;
  int device = 0;
  cuda_check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  std::size_t& known = allowed[{kernel, device}];
  if (bytes <= known) return;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
  known = bytes;
}
#endif

/// The runtime remembers the last error; one that was dealt with is none any more.
inline void forget_error() {
#if !defined(TERSEKV_SIMT)
  static_cast<void>(cudaGetLastError());
#endif
}

/// Starts kernel(arguments) on `stream` and does not wait for it.
/// Shapes  grid blocks of `block` threads, each block with `shared_bytes` of dynamic shared memory
/// Errors  cuda_error
template <class Arguments>
void launch(void (*kernel)(Arguments), dim3 grid, dim3 block, std::size_t shared_bytes, cuda_stream stream,
            const std::type_identity_t<Arguments>& arguments) {
  static_assert(std::is_trivially_copyable_v<Arguments>, "tersekv: a kernel takes one trivially copyable struct");
#if defined(TERSEKV_SIMT)
  static_cast<void>(stream);
  simt::launch(kernel, grid, block, shared_bytes, arguments);
#else
  constexpr std::size_t without_asking = 48 * 1024;
  if (shared_bytes > without_asking) allow_shared(reinterpret_cast<const void*>(kernel), shared_bytes);
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  cuda_check(cudaLaunchKernelEx(&config, kernel, arguments), "cudaLaunchKernelEx");
#endif
}

}  // namespace tersekv::detail
