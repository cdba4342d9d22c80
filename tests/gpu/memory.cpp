// SPDX-License-Identifier: Apache-2.0
#include "gpu/memory.hpp"

#include "gpu/heap.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

#include <cuda_runtime_api.h>
#include <pthread.h>

namespace gpu {
namespace {

constexpr std::size_t heap_bytes = std::size_t{1} << 30;

/// Null until open_memory(). Never destroyed: memory comes back until the program has ended.
constinit heap* memory = nullptr;

struct heap_is_used_up : std::bad_alloc {
  const char* what() const noexcept override {
    return "std::bad_alloc: the 1 GiB that tests and GPU share is used up (heap_bytes in tests/gpu/memory.cpp)";
  }
};

void* take(std::size_t n, std::size_t alignment) {
  if (memory) {
    if (void* p = memory->take(n, alignment)) return p;
    throw heap_is_used_up();
  }
  if (void* p = std::aligned_alloc(alignment, (std::max<std::size_t>(n, 1) + alignment - 1) / alignment * alignment))
    return p;
  throw std::bad_alloc();
}
void give_back(void* p) noexcept {
  if (memory && memory->has(p))
    memory->give_back(p);
  else
    std::free(p);
}

}  // namespace

const char* open_memory() {
  std::byte* begin = nullptr;
  const cudaError_t code = cudaHostAlloc(reinterpret_cast<void**>(&begin), heap_bytes, cudaHostAllocMapped);
  if (code != cudaSuccess) return cudaGetErrorString(code);
  alignas(heap) static std::byte place[sizeof(heap)];
  memory = ::new (static_cast<void*>(place)) heap(begin, heap_bytes);
  return nullptr;
}

int on_own_stack(int (*f)()) {
  constexpr std::size_t bytes = std::size_t{64} << 20, page = 4096;
  pthread_attr_t with_stack;
  pthread_attr_init(&with_stack);
  pthread_t thread;
  int result = 1;
  struct call {
    int (*f)();
    int& result;
  } work{f, result};
  const auto run = [](void* c) -> void* {
    const call& work = *static_cast<call*>(c);
    work.result = work.f();
    return nullptr;
  };
  if (pthread_attr_setstack(&with_stack, memory->take(bytes, page), bytes) != 0 ||
      pthread_create(&thread, &with_stack, run, &work) != 0) {
    std::printf("gpu_tests: no thread with a stack that the GPU can read\n");
    return 1;
  }
  pthread_join(thread, nullptr);
  return result;
}

}  // namespace gpu

// The forms for arrays and those with std::nothrow call these.
void* operator new(std::size_t n) { return gpu::take(n, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t n, std::align_val_t a) { return gpu::take(n, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { gpu::give_back(p); }
void operator delete(void* p, std::size_t) noexcept { gpu::give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { gpu::give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { gpu::give_back(p); }
