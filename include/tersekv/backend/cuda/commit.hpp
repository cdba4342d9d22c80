// SPDX-License-Identifier: Apache-2.0
// What the kernels of a commit share: what happened in the step, and for every head the list of rows that the policies
// decide about: live committed rows in order, then accepted staged ones (as commit.hpp does on the CPU).
#pragma once
#include <cstddef>
#include <cstdint>

#include <tersekv/backend/cuda/rows.hpp>
#include <tersekv/trim.hpp>

namespace tersekv::detail {

/// One sequence whose step is committed.
struct device_commit {
  const device_head* heads;      // [slots, kv_heads]
  slot_arrays keys;              // [slots] staged keys [tokens, kv_heads, key_dim]; only for policies that look at them
  const float* mass;             // [layers, kv_heads, signal_rows, signal_stride] over row indices; null = not read
  const float* window;           // [slots, kv_heads, signal_stride] attention of the newest queries
  const position_range* ranges;  // [range_count] positions that the caller protects
  std::int64_t signal_stride;    // the longest head's rows, and the step's, or more
  int length;                    // of the sequence before the step
  int range_count;
  int tokens, accepted, observed;  // of the step; of them committed; of those observed
  int signal_rows;                 // one per token, or two: the sum over tokens, the newest token
  int window_queries;              // queries behind `window`
  bool due;                        // the eviction policy's trigger says so
};

/// What is common to a launch: the heads of `slots` slots from `first_slot` on, of every sequence of a batch.
struct commit_shape {
  int sequences, slots, kv_heads;
  int first_slot, all_slots;
  int key_dim, value_dim;
  int layers;
  const int* slot_of_layer;  // [layers]
  const int* retained;       // [all_slots] positions that the slot's readers can see, 0 = all; null = all everywhere
  int most_rows, most_accepted;  // bounds of device_head::rows() + accepted, and of accepted
  unsigned threads = 512;        // of a block that looks at all rows of a head; whole warps
  TERSEKV_HD int heads() const { return sequences * slots * kv_heads; }
};

/// The lists of all heads, one after the other: head i = (sequence * slots + slot) * kv_heads + kv_head owns
/// rows [i * most_rows, ...). Lives in a launch's workspace.
struct row_lists {
  int* rows;            // [heads] of the list
  int* guarded;         // [heads] protected ones among them
  int* allowed;         // [heads] by budgets that compare scores
  int* open;            // [heads] rows that such a budget spreads
  std::uint64_t* sure;  // [heads] the worth from which such a budget keeps a row in any case
  int* kept;            // [heads] rows that stay: the answer
  int* source;          // [heads, most_rows] row index of the committed rows; staged row j is rows() + j
  int* position;        // [heads, most_rows]
  float* state;         // [heads, most_rows, columns of the eviction policy]
  float* last;          // [heads, most_rows] attention of the newest query, where it is needed
  float* window;        // [heads, most_rows] attention of the newest queries, likewise
  float* score;         // [heads, most_rows]
  protection* guard;    // [heads, most_rows]
  unsigned char* keep;  // [heads, most_rows] 1 = stays: the answer
  float* staged_state;  // [heads, most_accepted, columns of all policies]
  const float* keys;    // [heads, most_rows, key_dim] numbers of the list, where a policy compares keys
};

/// Cuts a workspace into arrays; without memory, it counts bytes.
class carver {
 public:
  explicit carver(void* memory) : memory_(static_cast<std::byte*>(memory)) {}
  template <class T>
  void take(T*& array, std::size_t count) {
    array = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
    bytes_ += (count * sizeof(T) + 255) / 256 * 256;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  std::size_t bytes_ = 0;
};

}  // namespace tersekv::detail
