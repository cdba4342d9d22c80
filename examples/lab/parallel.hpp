// SPDX-License-Identifier: Apache-2.0
//
// parallel_for(count, threads, body): body(index, worker) for every index in 0 .. count-1, on `threads` workers.
// Which worker takes which index varies; results that are stored by index do not.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lab {

/// Where the result of an index is stored.
inline std::size_t at(int i) { return static_cast<std::size_t>(i); }

template <class Body>
void parallel_for(int count, int threads, Body&& body) {
  std::atomic<int> next = 0;
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&](int worker) {
    try {
      for (int i = next++; i < count; i = next++) body(i, worker);
    } catch (...) {
      next = count;  // the others stop after their present index
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int worker = 1; worker < std::min(threads, count); ++worker) helpers.emplace_back(work, worker);
    work(0);
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace lab
