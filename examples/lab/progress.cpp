// SPDX-License-Identifier: Apache-2.0
#include "progress.hpp"

#include <iostream>
#include <sstream>
#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace lab {
namespace {

bool stderr_is_terminal() {
#if defined(_WIN32)
  return _isatty(2) != 0;
#else
  return isatty(2) != 0;
#endif
}

}  // namespace

progress::progress(bool quiet) : quiet_(quiet), terminal_(stderr_is_terminal()) {}

void progress::start(std::string what, int total) {
  finish();
  const std::lock_guard lock(mutex_);
  what_ = std::move(what);
  done_ = 0;
  total_ = total;
  started_ = shown_ = clock::now();
  if (terminal_) show();
}

void progress::tick() {
  const std::lock_guard lock(mutex_);
  ++done_;
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000);
  if (clock::now() - shown_ < pause) return;
  show();
}

void progress::show() {
  shown_ = clock::now();
  if (quiet_) return;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(shown_ - started_).count();
  std::ostringstream line;
  line << what_ << ": " << done_ << " of " << total_ << ", " << seconds << " s";
  const std::string text = line.str();
  if (!terminal_) {
    std::cerr << text + "\n";
    return;
  }
  std::cerr << "\r" + text + std::string(shown_width_ > text.size() ? shown_width_ - text.size() : 0, ' ')
            << std::flush;
  shown_width_ = text.size();
}

void progress::finish() {
  const std::lock_guard lock(mutex_);
  if (terminal_ && !quiet_ && shown_width_ > 0) std::cerr << "\r" + std::string(shown_width_, ' ') + "\r" << std::flush;
  shown_width_ = 0;
  total_ = 0;
}

}  // namespace lab
