// SPDX-License-Identifier: Apache-2.0
// Memory that kernels may use, on the harness and on a GPU.
#pragma once
#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

#include <tersekv/backend/cuda/launch.cuh>

namespace simt {

/// A copy of host numbers. On the harness it ends where it ends, so that AddressSanitizer sees what goes beyond.
template <class T>
class buffer {
 public:
  explicit buffer(const std::vector<T>& host) : count_(host.size()) {
#if defined(__CUDACC__)
    tersekv::detail::cuda_check(cudaMalloc(&data_, count_ * sizeof(T)), "cudaMalloc");
    tersekv::detail::cuda_check(cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyDefault), "cudaMemcpy");
#else
    data_ = static_cast<T*>(::operator new(count_ * sizeof(T), alignment));
    std::copy(host.begin(), host.end(), data_);
#endif
  }
  buffer(std::size_t count, T value) : buffer(std::vector<T>(count, value)) {}
  ~buffer() {
#if defined(__CUDACC__)
    cudaFree(data_);
#else
    ::operator delete(data_, alignment);
#endif
  }
  buffer(const buffer&) = delete;
  buffer& operator=(const buffer&) = delete;

  T* data() const { return data_; }

  /// What it holds after the kernels launched so far.
  std::vector<T> host() const {
#if defined(__CUDACC__)
    std::vector<T> copy(count_);
    tersekv::detail::cuda_check(cudaMemcpy(copy.data(), data_, count_ * sizeof(T), cudaMemcpyDefault), "cudaMemcpy");
    return copy;
#else
    return {data_, data_ + count_};
#endif
  }

 private:
#if !defined(__CUDACC__)
  static constexpr std::align_val_t alignment{256};  // as cudaMalloc
#endif
  T* data_ = nullptr;
  std::size_t count_;
};

}  // namespace simt
