// SPDX-License-Identifier: Apache-2.0
// The threads of one block, each a fiber, and who of them runs next. All of them share one OS thread.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "simt/cuda_types.hpp"
#include "simt/fiber.hpp"
#include "simt/options.hpp"

namespace simt {

struct block;
struct warp;

struct pending_copy {
  void* to;
  const void* from;
  unsigned bytes, valid;
};

struct lane {
  uint3 index{};  // threadIdx
  unsigned number = 0;
  simt::warp* warp = nullptr;
  simt::block* block = nullptr;
  simt::fiber fiber;
  bool done = false;
  const char* waits_in = nullptr;
  place where;
  unsigned barriers = 0;  // passed

  std::deque<pending_copy> copies;     // oldest first
  std::deque<unsigned> groups;         // copies in each committed group, oldest first
  unsigned open = 0;                   // copies since the last commit
  void* last_atomic = nullptr;         // its address
  bool fenced = false;                 // since the last atomic
  std::map<place, unsigned> accesses;  // of shared memory, by place; only with the meter
};

/// One collective of a warp that not all of its lanes have reached.
struct meeting {
  unsigned mask = 0, arrived = 0;
  const char* what = nullptr;
  unsigned round = 0;  // meetings held so far
  std::array<const void*, 32> in{};
  std::array<void*, 32> out{};
};

struct shared_access {
  std::uintptr_t address[32];
  unsigned bytes[32] = {};
};

struct warp {
  std::array<lane*, 32> lanes{};
  unsigned alive = 0;
  std::array<meeting, 32> meetings;  // by the lowest lane of the mask
  std::array<std::array<char, 2>, 32> tags;
  std::map<std::pair<place, unsigned>, shared_access> accesses;
};

struct block {
  uint3 index{};  // blockIdx
  dim3 threads, grid;
  std::vector<lane> lanes;
  std::vector<warp> warps;
  std::deque<lane*> ready;
  unsigned alive = 0, arrived = 0;  // the latter in a barrier
  lane* first_at_barrier = nullptr;
  char start_tag;
  std::array<char, 2> barrier_tags;
  void* end_tag = nullptr;  // of the grid
  std::unique_ptr<std::byte[]> arena;
  std::byte* shared = nullptr;
  std::size_t shared_bytes = 0;
  fiber worker;
  std::uint64_t random_state = 1;
  void (*kernel)(void*) = nullptr;
  void* call = nullptr;
  std::string fault;

  std::uint64_t random() {  // xorshift64*
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 2685821657736338717ull;
  }
};

inline thread_local lane* self = nullptr;

/// Runs `next` in the calling lane's place; null ends the block, which its worker then looks at.
__attribute__((no_sanitize("thread"))) inline void run(lane& me, lane* next) {
  self = next;
  switch_fiber(me.fiber, next ? next->fiber : me.block->worker);
}

inline std::string text(const uint3& i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}
inline std::string text(const place& p) { return std::string(p.file) + ":" + std::to_string(p.line); }
inline std::string text(const lane& l) {
  return "thread " + text(l.index) + " in " + (l.waits_in ? l.waits_in + (" at " + text(l.where)) : "the kernel");
}
inline std::string text(const char* s) { return s; }
inline std::string text(std::size_t n) { return std::to_string(n); }

/// Ends the launch with a fault, whose parts own nothing: the fibers are left where they are.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  lane& me = *self;
  me.block->fault = (text(parts) + ... + ": ") + "block " + text(me.block->index) + ", " + text(me);
  for (;;) run(me, nullptr);
}

inline lane* next_lane(block& b) {
  if (b.ready.empty()) return nullptr;
  if (settings().schedule == order::random) std::swap(b.ready.front(), b.ready[b.random() % b.ready.size()]);
  const bool newest = settings().schedule == order::lifo;
  lane* next = newest ? b.ready.back() : b.ready.front();
  if (newest)
    b.ready.pop_back();
  else
    b.ready.pop_front();
  return next;
}

/// The calling lane sleeps until somebody puts it among the ready ones.
inline void sleep() {
  lane& me = *self;
  lane* next = next_lane(*me.block);
  if (next != &me) run(me, next);
}

}  // namespace simt
