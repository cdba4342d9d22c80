// SPDX-License-Identifier: Apache-2.0
// Device operations: loads and stores, asynchronous copies. Addresses are multiples of the size of what is moved.
#pragma once
#include <cstdint>
#include <type_traits>

#include <tersekv/backend/cuda/target.cuh>

namespace tersekv::detail {

/// Global memory. T is a number or a CUDA vector of at most 16 bytes.
template <class T>
__device__ __forceinline__ T load(const T* p) {
  return *p;
}
/// Global memory that is read once: not kept in caches.
template <class T>
__device__ __forceinline__ T load_once(const T* p) {
  return __ldcs(p);
}
template <class T>
__device__ __forceinline__ void store(T* p, std::type_identity_t<T> value) {
  *p = value;
}
/// Shared memory, read as T, whatever type the region has.
template <class T>
__device__ __forceinline__ T load_shared(const void* p) {
  return *static_cast<const T*>(p);
}
template <class T>
__device__ __forceinline__ void store_shared(void* p, T value) {
  *static_cast<T*>(p) = value;
}

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// Starts a copy of Bytes (4, 8 or 16) from global to shared memory; of these only `valid` are read, the rest is zeros.
template <int Bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, int valid = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(Bytes),
                 "r"(valid)
                 : "memory");
}
/// Closes a group: the copies that this thread has started since the last one.
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all groups of this thread but the newest Pending. Other threads see the copies after a barrier.
template <int Pending>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace tersekv::detail
