// SPDX-License-Identifier: Apache-2.0
//
// What long work says on stderr: one line that is rewritten on a terminal, a line now and then elsewhere, or nothing.
#pragma once
#include <chrono>
#include <mutex>
#include <string>

namespace lab {

class progress {
 public:
  explicit progress(bool quiet);
  ~progress() { finish(); }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void start(std::string what, int total);
  void tick();  // one more piece is done; may be called from any thread
  void finish();

 private:
  using clock = std::chrono::steady_clock;
  void show();

  bool quiet_, terminal_;
  std::mutex mutex_;
  std::string what_;
  int done_ = 0, total_ = 0;
  std::size_t shown_width_ = 0;
  clock::time_point started_, shown_;
};

}  // namespace lab
