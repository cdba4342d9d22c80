// SPDX-License-Identifier: Apache-2.0
// What a backend offers to the container. The CPU's answers are in cpu.hpp.
//
//   verb                          meaning
//   memory, max_bytes             where rows live, and how much they may take (0 = no limit)
//   for_each(n, work)             calls work(0) .. work(n - 1), in any order, possibly at once
//   attend(block, scratch, tiles) partial attention of a block of queries over the tiles that `tiles(visit)` yields;
//                                 output, log-sum-exp, and, when asked for, the logits themselves
//   column_mass(...)              attention received per row, from logits and log-sum-exp
//   parallel                      empty where for_each uses one thread
//   decode_scratch, page_choice   what packed attention and sparse reading keep from call to call (cpu/decode.hpp)
//
// Encoding and decoding belong to the codec's formats, selection to trim.hpp, folding to the merge policy.
#pragma once
#include <concepts>
#include <cstddef>
#include <functional>
#include <memory_resource>

#include <tersekv/policy.hpp>

namespace tersekv {

/// A block of queries of one KV head.
struct attend_block {
  const float* queries = nullptr;  // [count, key_dim] scaled, rotated
  const int* position = nullptr;   // [count] absolute positions of the queries
  int count = 0, key_dim = 0, value_dim = 0;
  int window = 0;         // a query sees positions above its own minus window; 0 = all
  bool sees_self = true;  // a query sees the row at its own position
  float* out = nullptr;   // [count, value_dim] attention output, zero where nothing is visible; null = not wanted
  float* log_sum_exp = nullptr;  // [count] of the visible logits; -inf where nothing is visible
  // [count - first_logits, rows] of queries first_logits and on, of every row index; -inf where hidden; null = not
  // wanted
  float* logits = nullptr;
  int first_logits = 0, rows = 0;
};

/// Computes where the host cannot read; it brings a container of its own (cache.hpp).
template <class P>
concept device_backend = requires {
  requires P::on_device;
};

template <class P>
concept backend = requires(const P p) {
  { p.memory } -> std::convertible_to<std::pmr::memory_resource*>;
  { p.max_bytes } -> std::convertible_to<std::size_t>;
}
&&(device_backend<P> || requires(const P p, void (*work)(int)) {
  p.for_each(1, work);
  static_cast<bool>(p.parallel);
  typename P::scratch;
  typename P::decode_scratch;
  typename P::page_choice;
});

}  // namespace tersekv
