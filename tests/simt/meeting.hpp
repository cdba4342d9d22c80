// SPDX-License-Identifier: Apache-2.0
// Barriers of blocks and collectives of warps: threads meet, and the last to come does the work for all.
#pragma once
#include <bit>
#include <cstring>
#include <type_traits>

#include "simt/block.hpp"

namespace simt {

inline void sync_block(place where) {
  lane& me = *self;
  block& b = *me.block;
  // Two tags in turn: a thread already in the next barrier must not order those that still leave this one.
  void* tag = &b.barrier_tags[me.barriers++ % 2];
  release(tag);
  {
    quiet own;
    me.waits_in = "__syncthreads";
    me.where = where;
    if (b.arrived++ == 0) b.first_at_barrier = &me;
    if (b.first_at_barrier->where != where)
      fail("threads of a block meet in different barriers, also ", b.first_at_barrier->where);
    if (b.alive != b.lanes.size()) fail("a thread waits for others that have ended");
    if (b.arrived == b.alive) {
      b.arrived = 0;
      for (lane& l : b.lanes)
        if (&l != &me) b.ready.push_back(&l);
    } else {
      sleep();
    }
    me.waits_in = nullptr;
  }
  acquire(tag);
}

/// All lanes of `mask` meet in `what`; the last one calls work(meeting), which reads `in` and writes `out` of each.
template <class Work>
void meet(unsigned mask, const char* what, place where, const void* in, void* out, Work work) {
  quiet own;
  lane& me = *self;
  warp& w = *me.warp;
  me.waits_in = what;
  me.where = where;
  if (!(mask >> me.number & 1)) fail("a lane calls a collective whose mask leaves it out");
  if (mask & ~w.alive) fail("a mask names a lane that has ended or does not exist");
  meeting& m = w.meetings[static_cast<std::size_t>(std::countr_zero(mask))];
  if (m.arrived == 0) {
    m.mask = mask;
    m.what = what;
  }
  if (m.mask != mask) fail("lanes of a warp meet with different masks");
  if (std::strcmp(m.what, what) != 0) fail("lanes of a warp meet in different collectives, also ", m.what);
  m.arrived |= 1u << me.number;
  m.in[me.number] = in;
  m.out[me.number] = out;
  if (m.arrived == mask) {
    work(m);
    m.arrived = 0;
    ++m.round;
    for (unsigned i = 0; i < 32; ++i)
      if ((mask >> i & 1) && i != me.number) me.block->ready.push_back(w.lanes[i]);
  } else {
    sleep();
  }
  me.waits_in = nullptr;
}

inline void sync_warp(unsigned mask, place where) {
  const auto lowest = static_cast<std::size_t>(std::countr_zero(mask)) % 32;
  warp& w = *self->warp;
  void* tag = nullptr;
  {
    quiet own;
    tag = &w.tags[lowest][w.meetings[lowest].round % 2];
  }
  release(tag);
  meet(mask, "__syncwarp", where, nullptr, nullptr, [](meeting&) {});
  acquire(tag);
}

/// The value of lane `source`, which must be in the mask.
template <class T>
T shuffle(unsigned mask, const char* what, place where, T value, int source) {
  static_assert(std::is_trivially_copyable_v<T>);
  struct message {
    T value;
    int source;
  } const in{value, source};
  T result = value;
  meet(mask, what, where, &in, &result, [mask](meeting& m) {
    for (std::size_t i = 0; i < 32; ++i) {
      if (!(mask >> i & 1)) continue;
      const int from = static_cast<const message*>(m.in[i])->source;
      if (!(mask >> from & 1)) fail("a shuffle reads a lane outside its mask");
      *static_cast<T*>(m.out[i]) = static_cast<const message*>(m.in[static_cast<std::size_t>(from)])->value;
    }
  });
  return result;
}

inline unsigned ballot(unsigned mask, const char* what, place where, bool vote) {
  unsigned result = 0;
  meet(mask, what, where, &vote, &result, [mask](meeting& m) {
    unsigned votes = 0;
    for (std::size_t i = 0; i < 32; ++i)
      if ((mask >> i & 1) && *static_cast<const bool*>(m.in[i])) votes |= 1u << i;
    for (std::size_t i = 0; i < 32; ++i)
      if (mask >> i & 1) *static_cast<unsigned*>(m.out[i]) = votes;
  });
  return result;
}

}  // namespace simt
