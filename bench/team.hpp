// SPDX-License-Identifier: Apache-2.0
// A few threads that wait for work: what an engine would give to tersekv::cpu{.parallel}. No thread is made per call.
// Waiting threads spin for some tens of microseconds, then sleep.
#pragma once
#include <atomic>
#include <functional>
#include <thread>
#include <vector>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace bench {

class team {
 public:
  explicit team(int most) {
    for (int id = 1; id < most; ++id) threads_.emplace_back([this, id] { wait_and_work(id); });
  }
  ~team() {
    stop_ = true;
    announce(0);
  }
  team(const team&) = delete;
  team& operator=(const team&) = delete;

  /// How many of the threads, the caller included, take part from now on.
  void use(int threads) { active_ = threads; }
  int used() const { return active_; }

  /// work(0) .. work(n - 1), whoever comes first.
  void run(int n, const std::function<void(int)>& work) {
    if (active_ <= 1 || n <= 1) {
      for (int i = 0; i < n; ++i) work(i);
      return;
    }
    work_ = &work, count_ = n;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(active_ - 1, std::memory_order_relaxed);
    announce(active_);
    take();
    while (busy_.load(std::memory_order_acquire) > 0) pause();
  }

 private:
  static constexpr unsigned most_active = 256;  // of a round: how many take part, in the low bits

  void announce(int active) {
    const unsigned round = round_.load(std::memory_order_relaxed) / most_active + 1;
    round_.store(round * most_active + static_cast<unsigned>(active), std::memory_order_release);
    round_.notify_all();
  }
  void take() {
    for (int i = next_++; i < count_; i = next_++) (*work_)(i);
  }
  void wait_and_work(int id) {
    unsigned seen = 0;
    for (;;) {
      unsigned now = round_.load(std::memory_order_acquire);
      for (int spins = 0; now == seen && spins < 2000; ++spins, now = round_.load(std::memory_order_acquire)) pause();
      if (now == seen) {
        round_.wait(seen, std::memory_order_acquire);
        continue;
      }
      seen = now;
      if (stop_) return;
      if (static_cast<unsigned>(id) >= now % most_active) continue;
      take();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }
  static void pause() {
#if defined(__SSE2__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
  }

  std::atomic<unsigned> round_ = 0;
  std::atomic<int> next_ = 0, busy_ = 0;
  std::atomic<bool> stop_ = false;
  const std::function<void(int)>* work_ = nullptr;
  int count_ = 0, active_ = 1;
  std::vector<std::jthread> threads_;  // last: joined before the rest goes
};

}  // namespace bench
