// SPDX-License-Identifier: Apache-2.0
// Stacks that hand the processor to each other: fifteen instructions on x86-64, ucontext elsewhere (ten times slower).
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "simt/sanitizers.hpp"
#if !defined(__x86_64__)
#define SIMT_UCONTEXT 1
#endif
#if defined(SIMT_UCONTEXT)
#include <ucontext.h>
#endif

#if !defined(SIMT_UCONTEXT)
extern "C" void simt_switch_stack(void** save, void* load);
asm(R"(
.text
.weak simt_switch_stack
.type simt_switch_stack,@function
simt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stack,.-simt_switch_stack
)");
#endif

namespace simt {

/// A stack of its own; one that was never started stands for the OS thread it is made in.
class fiber {
 public:
  fiber() = default;
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  /// The next switch to this fiber calls `body`, which never returns.
  void start(void (*body)()) {
    stack_.reset(new std::byte[stack_bytes]);
    bottom_ = stack_.get();
    bytes_ = stack_bytes;
    std::memset(stack_.get(), canary, canary_bytes);
#if defined(SIMT_TSAN)
    tsan_ = __tsan_create_fiber(0);
#endif
#if defined(SIMT_UCONTEXT)
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_.get();
    context_.uc_stack.ss_size = stack_bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, body, 0);
#else
    const auto top = reinterpret_cast<std::uintptr_t>(stack_.get() + stack_bytes) & ~std::uintptr_t{15};
    auto* word = reinterpret_cast<void**>(top);
    *--word = nullptr;  // so that the body sees the stack as after a call
    *--word = reinterpret_cast<void*>(body);
    for (int saved = 0; saved < 6; ++saved) *--word = nullptr;
    pointer_ = word;
#endif
  }

  /// First thing in a body. The first of all was switched to by `thread`, which learns its own stack.
  static void entered([[maybe_unused]] fiber& thread) {
#if defined(SIMT_ASAN)
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!thread.bottom_) {
      thread.bottom_ = bottom;
      thread.bytes_ = bytes;
    }
#endif
  }

  bool overflowed() const {
    for (std::size_t i = 0; i < canary_bytes; ++i)
      if (stack_[i] != std::byte{canary}) return true;
    return false;
  }

  /// Gives ThreadSanitizer its place back. Not for fibers that a fault left in the middle: it reports those.
  void retire() {
#if defined(SIMT_TSAN)
    if (tsan_) __tsan_destroy_fiber(tsan_);
    tsan_ = nullptr;
#endif
  }

  friend void switch_fiber(fiber& from, fiber& to);

 private:
  static constexpr std::size_t stack_bytes = (address_sanitizer || thread_sanitizer ? 256 : 96) * 1024;
  static constexpr std::size_t canary_bytes = 64;
  static constexpr unsigned char canary = 0x5a;

  std::unique_ptr<std::byte[]> stack_;
  const void* bottom_ = nullptr;
  std::size_t bytes_ = 0;
  [[maybe_unused]] void* pointer_ = nullptr;
  [[maybe_unused]] void* asan_ = nullptr;
  [[maybe_unused]] void* tsan_ = nullptr;
#if defined(SIMT_UCONTEXT)
  ucontext_t context_{};
#endif
};

/// `from`, which runs, sleeps until somebody switches back to it; `to` runs.
__attribute__((no_sanitize("thread"))) inline void switch_fiber(fiber& from, fiber& to) {
#if defined(SIMT_ASAN)
  __sanitizer_start_switch_fiber(&from.asan_, to.bottom_, to.bytes_);
#elif defined(SIMT_TSAN)
  if (!from.tsan_) from.tsan_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(SIMT_UCONTEXT)
  swapcontext(&from.context_, &to.context_);
#else
  simt_switch_stack(&from.pointer_, to.pointer_);
#endif
#if defined(SIMT_ASAN)
  __sanitizer_finish_switch_fiber(from.asan_, nullptr, nullptr);
#endif
}

}  // namespace simt
