// SPDX-License-Identifier: Apache-2.0
// Compiled once for all test programs: Catch2 2 takes seconds here.
#include <atomic>
#include <cstdlib>
#include <new>

#define CATCH_CONFIG_RUNNER
#include "catch.hpp"

namespace test {
std::atomic<std::size_t> news{0};  // support.hpp
}

#if !defined(__SANITIZE_ADDRESS__)  // which has an operator new of its own
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  ++test::news;
  return std::malloc(n);
}
[[gnu::noinline]] void* operator new(std::size_t n, std::align_val_t to, const std::nothrow_t&) noexcept {
  ++test::news;
  const auto a = static_cast<std::size_t>(to);
  return std::aligned_alloc(a, (n + a - 1) / a * a);
}
[[gnu::noinline]] void* operator new(std::size_t n) {
  if (void* p = operator new(n, std::nothrow)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, std::align_val_t to) {
  if (void* p = operator new(n, to, std::nothrow)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
