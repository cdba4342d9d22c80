// SPDX-License-Identifier: Apache-2.0
#include "gpu/memory.hpp"

#include <bit>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <new>

#include <cuda_runtime_api.h>
#include <pthread.h>

namespace gpu {
namespace {

/// Blocks of powers of two, each behind a header with its size; kept for those who ask for the same size again.
class pool {
 public:
  bool open() {
    if (cudaHostAlloc(reinterpret_cast<void**>(&begin_), bytes, cudaHostAllocMapped) != cudaSuccess) return false;
    end_ = begin_ + bytes;
    free_ = begin_;
    return true;
  }
  bool is_open() const { return begin_ != nullptr; }
  bool has(void* p) const { return p >= begin_ && p < end_; }

  void* take(std::size_t n) {
    const auto size = static_cast<int>(std::bit_width(n + header - 1));
    const std::lock_guard lock(one_);
    std::byte* block = spare_[size];
    if (block) {
      spare_[size] = *reinterpret_cast<std::byte**>(block + header);
    } else {
      block = free_;
      if ((std::size_t{1} << size) > static_cast<std::size_t>(end_ - free_)) return nullptr;
      free_ += std::size_t{1} << size;
      *reinterpret_cast<int*>(block) = size;
    }
    return block + header;
  }
  void give_back(void* p) {
    const std::lock_guard lock(one_);
    std::byte* block = static_cast<std::byte*>(p) - header;
    std::byte*& first = spare_[*reinterpret_cast<int*>(block)];
    *static_cast<std::byte**>(p) = first;
    first = block;
  }

 private:
  static constexpr std::size_t bytes = std::size_t{1} << 30, header = 256;  // cudaMalloc aligns to as much
  std::byte *begin_ = nullptr, *end_ = nullptr, *free_ = nullptr;
  std::byte* spare_[64] = {};
  std::mutex one_;
};
constinit pool memory;

}  // namespace

bool open_memory() { return memory.open(); }

int on_own_stack(int (*f)()) {
  constexpr std::size_t bytes = std::size_t{64} << 20;
  pthread_attr_t with_stack;
  pthread_attr_init(&with_stack);
  pthread_attr_setstack(&with_stack, memory.take(bytes), bytes);
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
  if (pthread_create(&thread, &with_stack, run, &work) == 0) pthread_join(thread, nullptr);
  return result;
}

}  // namespace gpu

void* operator new(std::size_t n) {
  if (void* p = gpu::memory.is_open() ? gpu::memory.take(n) : std::malloc(n)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  if (gpu::memory.has(p))
    gpu::memory.give_back(p);
  else
    std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
