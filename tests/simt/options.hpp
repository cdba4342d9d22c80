// SPDX-License-Identifier: Apache-2.0
// How a grid is run, what is counted meanwhile, and what is thrown when a kernel breaks a rule.
#pragma once
#include <compare>
#include <cstdint>
#include <stdexcept>
#include <utility>

namespace simt {

enum class order { fifo, lifo, random };        // which thread that may run is next; blocks likewise
enum class async_copy { late, early, random };  // a copy_async copies at its wait, at once, or either

struct options {
  order schedule = order::fifo;
  async_copy copies = async_copy::late;
  std::uint64_t seed = 1;
  unsigned workers = 1;      // OS threads that share the blocks
  bool meter_banks = false;  // count conflicts in shared memory
};
inline options& settings() {
  static options now;
  return now;
}

/// Other settings while it lives.
class with {
 public:
  explicit with(const options& wanted) : before_(std::exchange(settings(), wanted)) {}
  ~with() { settings() = before_; }
  with(const with&) = delete;
  with& operator=(const with&) = delete;

 private:
  options before_;
};

/// Of the last launch.
struct counters {
  std::uint64_t phases = 0;      // of accesses to shared memory: 32 lanes of at most 4 bytes, 16 of 8, 8 of 16
  std::uint64_t wavefronts = 0;  // these took; equal to `phases` without bank conflicts
};
inline counters& counted() {
  static counters last;
  return last;
}

/// A kernel broke a rule; the message says which, where, and who.
struct fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A place in the source; as a default argument `= {}`, that of the call.
struct place {
  const char* file;
  int line;
  constexpr place(const char* file = __builtin_FILE(), int line = __builtin_LINE()) : file(file), line(line) {}
  auto operator<=>(const place&) const = default;
};

}  // namespace simt
