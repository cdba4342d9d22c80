// SPDX-License-Identifier: Apache-2.0
// What the sanitizers must be told: which fiber runs, what orders fibers, which bytes nobody may touch.
// A fiber is a thread of its own to ThreadSanitizer, and only barriers, __syncwarp and fenced atomics order fibers, so
// a missing barrier is a data race whatever the schedule was.
#pragma once
#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#elif __has_feature(thread_sanitizer)
#define SIMT_TSAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define SIMT_TSAN 1
#endif

#if defined(SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace simt {

#if defined(SIMT_ASAN)
inline constexpr bool address_sanitizer = true;
#else
inline constexpr bool address_sanitizer = false;
#endif
#if defined(SIMT_TSAN)
inline constexpr bool thread_sanitizer = true;
#else
inline constexpr bool thread_sanitizer = false;
#endif

/// What came before release(tag) in one fiber is visible after acquire(tag) in another.
inline void release([[maybe_unused]] void* tag) {
#if defined(SIMT_TSAN)
  __tsan_release(tag);
#endif
}
inline void acquire([[maybe_unused]] void* tag) {
#if defined(SIMT_TSAN)
  __tsan_acquire(tag);
#endif
}

/// While it lives, accesses are the harness's own and not the kernel's.
struct quiet {
  quiet() {
#if defined(SIMT_TSAN)
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
  }
  ~quiet() {
#if defined(SIMT_TSAN)
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
  }
  quiet(const quiet&) = delete;
  quiet& operator=(const quiet&) = delete;
};

inline void forbid([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_ASAN)
  ASAN_POISON_MEMORY_REGION(p, bytes);
#endif
}
inline void allow([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_ASAN)
  ASAN_UNPOISON_MEMORY_REGION(p, bytes);
#endif
}

}  // namespace simt
