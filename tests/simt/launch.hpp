// SPDX-License-Identifier: Apache-2.0
// Runs a grid: blocks one after the other, or spread over several OS threads.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "simt/cuda_names.hpp"

namespace simt {

// Of a block, on sm_90; with some room for what AddressSanitizer wants between regions.
inline constexpr std::size_t largest_shared = 99 * 1024 + (address_sanitizer ? 1024 : 0);  // sm_86 and sm_89
inline constexpr unsigned most_threads = 1024;

/// After the kernel: the thread that runs next.
inline lane* finish(block& b, lane& me) {
  quiet own;
  if (!me.copies.empty()) fail("a thread ends with copies that nobody waited for");
  if (b.arrived != 0) fail("a thread ends while others wait in ", b.first_at_barrier->where);
  me.groups.clear();
  me.done = true;
  --b.alive;
  me.warp->alive &= ~(1u << me.number);
  return next_lane(b);
}

/// What every thread of a block does: the kernel, for as many blocks as come.
__attribute__((no_sanitize("thread"))) inline void thread_body() {
  lane& me = *self;
  block& b = *me.block;
  fiber::entered(b.worker);
  for (;;) {
    acquire(&b.start_tag);
    b.kernel(b.call);
    release(b.end_tag);
    run(me, finish(b, me));
  }
}

inline void retire(std::unique_ptr<block> b) {
  quiet own;
  for (lane& l : b->lanes) l.fiber.retire();
  b.reset();
}

inline std::unique_ptr<block> make_block(dim3 grid, dim3 threads, std::size_t shared_bytes) {
  quiet own;  // new memory has no past, and in retire() freeing it is no access
  auto b = std::make_unique<block>();
  b->grid = grid;
  b->threads = threads;
  const std::size_t count = std::size_t{threads.x} * threads.y * threads.z;
  b->lanes = std::vector<lane>(count);
  b->warps = std::vector<warp>((count + 31) / 32);
  for (std::size_t t = 0; t < count; ++t) {
    const auto number = static_cast<unsigned>(t);
    lane& l = b->lanes[t];
    l.index = {number % threads.x, number / threads.x % threads.y, number / (threads.x * threads.y)};
    l.number = number % 32;
    l.warp = &b->warps[t / 32];
    l.warp->lanes[l.number] = &l;
    l.block = b.get();
    l.fiber.start(thread_body);
  }
  constexpr std::size_t alignment = 128;
  b->shared_bytes = shared_bytes;
  b->arena.reset(new std::byte[shared_bytes + alignment]);
  forbid(b->arena.get(), shared_bytes + alignment);
  b->shared = b->arena.get() + (alignment - reinterpret_cast<std::uintptr_t>(b->arena.get()) % alignment);
  return b;
}

inline void run_block(block& b, uint3 index) {
  quiet own;
  b.index = index;
  b.alive = static_cast<unsigned>(b.lanes.size());
  for (lane& l : b.lanes) {
    l.done = l.fenced = false;
    l.last_atomic = nullptr;
    l.warp->alive |= 1u << l.number;
    l.accesses.clear();
    b.ready.push_back(&l);
  }
  for (warp& w : b.warps) w.accesses.clear();
  allow(b.shared, b.shared_bytes);
  std::memset(b.shared, 0xff, b.shared_bytes);  // NaN as float, half and bfloat16

  release(&b.start_tag);
  self = next_lane(b);
  switch_fiber(b.worker, self->fiber);

  if (!b.fault.empty()) throw fault(b.fault);
  if (b.alive != 0) {
    std::string report = "deadlock: block " + text(b.index);
    for (const lane& l : b.lanes)
      if (!l.done) report += "\n  " + text(l);
    throw fault(report);
  }
  for (const lane& l : b.lanes)
    if (l.fiber.overflowed()) throw fault("a thread needs a larger stack (fiber.hpp)");
}

/// In the order of the settings.
inline std::vector<std::uint64_t> block_order(std::uint64_t blocks) {
  std::vector<std::uint64_t> all(blocks);
  std::iota(all.begin(), all.end(), std::uint64_t{0});
  if (settings().schedule == order::lifo) std::reverse(all.begin(), all.end());
  if (settings().schedule == order::random) std::shuffle(all.begin(), all.end(), std::mt19937_64(settings().seed));
  return all;
}

/// Runs call() in every thread of the grid. Throws fault.
template <class Call>
void run_grid(dim3 grid, dim3 threads, std::size_t shared_bytes, Call& call) {
  if (std::size_t{threads.x} * threads.y * threads.z - 1 >= most_threads)
    throw fault("launch: 1 to 1024 threads a block");
  if (shared_bytes > largest_shared) throw fault("launch: a block has no more than 99 KB");
  if (grid.x == 0 || grid.y - 1 >= 65535 || grid.z - 1 >= 65535) throw fault("launch: blocks out of range");
  const auto blocks_in_order = block_order(std::uint64_t{grid.x} * grid.y * grid.z);
  std::atomic<std::size_t> next{0};
  std::mutex last;
  std::exception_ptr broken;
  char end_tag = 0;
  counted() = {};
  // ThreadSanitizer must not take one block for the past of another: each has its own fibers, memory and tags, and old
  // ones are kept for a while (there is room for 8000 fibers).
  const std::size_t kept = thread_sanitizer ? 2048 / (std::size_t{threads.x} * threads.y * threads.z) : 0;
  auto work = [&] {
    std::deque<std::unique_ptr<block>> blocks;
    counters count;
    try {
      for (std::size_t i; (i = next++) < blocks_in_order.size();) {
        if (blocks.empty() || thread_sanitizer) {
          blocks.push_back(make_block(grid, threads, shared_bytes));
          blocks.back()->end_tag = &end_tag;
          blocks.back()->call = &call;
          blocks.back()->kernel = [](void* c) { (*static_cast<Call*>(c))(); };
          blocks.back()->random_state = (settings().seed + i) * 0x9e3779b97f4a7c15ull | 1;
        }
        block& b = *blocks.back();
        const std::uint64_t at = blocks_in_order[i];
        run_block(b, {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                      static_cast<unsigned>(at / grid.x / grid.y)});
        count_conflicts(b, count);
        if (blocks.size() > kept + 1) {
          retire(std::move(blocks.front()));
          blocks.pop_front();
        }
      }
      for (auto& b : blocks) retire(std::move(b));
    } catch (const fault&) {
      const std::lock_guard lock(last);
      broken = std::current_exception();
      next = blocks_in_order.size();
    }
    acquire(&end_tag);
    const std::lock_guard lock(last);
    counted().phases += count.phases;
    counted().wavefronts += count.wavefronts;
  };
  {
    std::vector<std::jthread> others;
    for (unsigned w = 1; w < std::min<std::size_t>(settings().workers, blocks_in_order.size()); ++w)
      others.emplace_back(work);
    work();
  }
  if (broken) std::rethrow_exception(broken);
}

/// What the host has asked of the device so far.
struct requests {
  int launches, fills, copies;
  int all() const { return launches + fills + copies; }
};
inline requests& requested() {
  static requests all{};
  return all;
}

/// Runs kernel(arguments) over the grid, and returns when it is done.
template <class Arguments>
void launch(void (*kernel)(Arguments), dim3 grid, dim3 threads, std::size_t shared_bytes, const Arguments& arguments) {
  ++requested().launches;
  auto call = [&] { kernel(arguments); };
  run_grid(grid, threads, shared_bytes, call);
}
inline void fill(void* to, int byte, std::size_t bytes) {
  ++requested().fills;
  std::memset(to, byte, bytes);
}
inline void copy(void* to, const void* from, std::size_t bytes) {
  ++requested().copies;
  std::memcpy(to, from, bytes);
}

}  // namespace simt
