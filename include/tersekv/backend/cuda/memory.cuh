// SPDX-License-Identifier: Apache-2.0
// Device memory: bytes in order of a stream, arrays that a pool counts, copies between host and device.
#pragma once
#include <cstddef>
#include <cstring>
#include <memory_resource>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/pool.hpp>

namespace tersekv::detail {

/// The runtime's memory in order of a stream: what was freed is given out again when the stream has come that far.
class device_resource final : public std::pmr::memory_resource {
 public:
  explicit device_resource(cuda_stream stream) : stream_(stream) {}

 private:
  void* do_allocate(std::size_t bytes, std::size_t) override {
#if defined(TERSEKV_SIMT)
    return ::operator new(bytes, std::align_val_t(256));
#else
    void* p = nullptr;
    const cudaError_t code = cudaMallocAsync(&p, bytes, stream_);
    if (code == cudaErrorMemoryAllocation) {
      forget_error();
      throw capacity_error("tersekv::cuda: the device has no " + std::to_string(bytes) +
                           " bytes left; nothing was changed: close or trim a sequence and try again");
    }
    cuda_check(code, "cudaMallocAsync");
    return p;
#endif
  }
  void do_deallocate(void* p, std::size_t, std::size_t) override {
#if defined(TERSEKV_SIMT)
    ::operator delete(p, std::align_val_t(256));
#else
    cudaFreeAsync(p, stream_);  // a failure here is one of an earlier kernel; the next call reports it
#endif
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  [[maybe_unused]] cuda_stream stream_;
};

/// Copies that host code asks for. The first returns when `from` may be reused, the second when `to` is written.
inline void copy_to_device(void* to, const void* from, std::size_t bytes, [[maybe_unused]] cuda_stream stream) {
  if (bytes == 0) return;
#if defined(TERSEKV_SIMT)
  simt::copy(to, from, bytes);
#else
  cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  cuda_check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
#endif
}
inline void copy_to_host(void* to, const void* from, std::size_t bytes, [[maybe_unused]] cuda_stream stream) {
  if (bytes == 0) return;
#if defined(TERSEKV_SIMT)
  simt::copy(to, from, bytes);
#else
  cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
  cuda_check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
#endif
}
inline void copy_on_device(void* to, const void* from, std::size_t bytes, [[maybe_unused]] cuda_stream stream) {
  if (bytes == 0) return;
#if defined(TERSEKV_SIMT)
  simt::copy(to, from, bytes);
#else
  cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "cudaMemcpyAsync");
#endif
}
inline void fill_on_device(void* to, int byte, std::size_t bytes, [[maybe_unused]] cuda_stream stream) {
  if (bytes == 0) return;
#if defined(TERSEKV_SIMT)
  simt::fill(to, byte, bytes);
#else
  cuda_check(cudaMemsetAsync(to, byte, bytes, stream), "cudaMemsetAsync");
#endif
}

/// An array in device memory whose bytes a pool counts.
template <class T>
class device_buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit device_buffer(pool& owner) : owner_(&owner) {}
  device_buffer(pool& owner, std::size_t n) : owner_(&owner) { renew(n); }
  device_buffer(device_buffer&& other) noexcept
      : owner_(other.owner_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  device_buffer& operator=(device_buffer other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~device_buffer() {
    if (data_) owner_->deallocate(data_, held());
  }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t held() const { return size_ * sizeof(T); }
  /// n elements, uninitialised; what was there is gone.
  void renew(std::size_t n) {
    if (n == size_) return;
    T* fresh = n == 0 ? nullptr : static_cast<T*>(owner_->allocate(n * sizeof(T)));
    if (data_) owner_->deallocate(data_, held());
    data_ = fresh;
    size_ = n;
  }
  /// At least n elements, uninitialised where it grows: for scratch.
  T* at_least(std::size_t n) {
    if (n > size_) renew(n + n / 4);
    return data_;
  }

 private:
  pool* owner_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace tersekv::detail
