// SPDX-License-Identifier: Apache-2.0
// Asynchronous copies, atomics and fences, alignment, and the meter of bank conflicts.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <set>
#include <type_traits>
#include <vector>

#include "simt/block.hpp"

namespace simt {

inline void check_aligned(const void* p, std::size_t bytes, const char* what, place where) {
  if (reinterpret_cast<std::uintptr_t>(p) % bytes == 0) return;
  self->waits_in = what;
  self->where = where;
  fail("an address is not a multiple of ", bytes, " bytes");
}

// ------------------------------------------------------------------------------------------------ asynchronous copies
inline void make_copy(const pending_copy& c) {
  std::memcpy(c.to, c.from, c.valid);
  std::memset(static_cast<char*>(c.to) + c.valid, 0, c.bytes - c.valid);
}

inline void start_copy(const pending_copy& c, place where) {
  check_aligned(c.to, c.bytes, "copy_async", where);
  check_aligned(c.from, c.bytes, "copy_async", where);
  bool now = settings().copies == async_copy::early;
  {
    quiet own;
    if (settings().copies == async_copy::random) now = self->block->random() % 2 == 0;
    if (!now) self->copies.push_back(c);
    if (!now) ++self->open;
  }
  if (now) make_copy(c);
}

inline void commit_copies() {
  quiet own;
  self->groups.push_back(self->open);
  self->open = 0;
}

/// Makes the copies of all groups but the newest `pending`.
inline void wait_for_copies(unsigned pending) {
  for (;;) {
    pending_copy due{};
    {
      quiet own;
      lane& me = *self;
      while (me.groups.size() > pending && me.groups.front() == 0) me.groups.pop_front();
      if (me.groups.size() <= pending) return;
      --me.groups.front();
      due = me.copies.front();
      me.copies.pop_front();
    }
    make_copy(due);
  }
}

// ------------------------------------------------------------------------------------------------- atomics and fences
/// Atomics are relaxed, as in CUDA: they order other accesses only together with a fence before or after them.
template <class T, class F>
T atomic(T* p, F f) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  if (self->fenced) release(p);
  self->fenced = false;
  self->last_atomic = p;
  auto* word = reinterpret_cast<bits*>(p);
  bits before = __atomic_load_n(word, __ATOMIC_RELAXED), after = 0;
  do after = std::bit_cast<bits>(f(std::bit_cast<T>(before)));
  while (!__atomic_compare_exchange_n(word, &before, after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return std::bit_cast<T>(before);
}
inline void fence() {
  self->fenced = true;
  if (self->last_atomic) acquire(self->last_atomic);
}

// ---------------------------------------------------------------------------------------------------------- bank meter
/// Notes an access to shared memory: the n-th of all lanes of a warp at one place are one request.
inline void note_access(const void* p, unsigned bytes, place where) {
  if (!settings().meter_banks) return;
  quiet own;
  shared_access& a = self->warp->accesses[{where, self->accesses[where]++}];
  a.address[self->number] = reinterpret_cast<std::uintptr_t>(p);
  a.bytes[self->number] = bytes;
}

/// 32 banks of 4 bytes; lanes that touch the same word share it.
inline void count_conflicts(const block& b, counters& count) {
  for (const warp& w : b.warps)
    for (const auto& [key, access] : w.accesses) {
      const unsigned bytes = *std::max_element(std::begin(access.bytes), std::end(access.bytes));
      const unsigned lanes = std::min(32u, 128 / bytes);  // that one phase serves
      for (unsigned first = 0; first < 32; first += lanes) {
        std::set<std::uintptr_t> words[32];
        for (unsigned i = first; i < first + lanes; ++i)
          for (std::uintptr_t at = 0; at < access.bytes[i]; at += 4)
            words[(access.address[i] + at) / 4 % 32].insert((access.address[i] + at) / 4);
        std::size_t worst = 0;
        for (const auto& bank : words) worst = std::max(worst, bank.size());
        count.phases += worst > 0;
        count.wavefronts += worst;
      }
    }
}

}  // namespace simt
