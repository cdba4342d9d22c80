// SPDX-License-Identifier: Apache-2.0
// What a cache really holds: bytes as the pool was asked for them, rows per head, bits per number with everything in.
#pragma once
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <ostream>
#include <string>
#include <vector>

#include <tersekv/layer_plan.hpp>
#include <tersekv/shape.hpp>

namespace tersekv {

/// Rows of one head: kept = packed (dead ones included) + full precision, less the dead.
struct head_report {
  int slot, head;
  int kept;    // live rows
  int packed;  // rows of packed pages, dead ones included
  int window;  // rows in full precision: window and sinks
};

struct report_data {
  std::size_t sequences = 0;
  std::size_t tokens = 0;     // seen, summed over sequences
  std::size_t rows_seen = 0;  // tokens * slots * kv_heads
  std::size_t rows_kept = 0;
  std::size_t page_bytes = 0;       // packed pages (pages shared by forks count once per sequence here)
  std::size_t window_bytes = 0;     // full-precision rows
  std::size_t column_bytes = 0;     // positions, policy state, biases, page lists
  std::size_t ring_bytes = 0;       // newest queries, where a policy wants them
  std::size_t bytes = 0;            // held: all of these; for a whole cache, what the pool holds
  std::size_t peak_bytes = 0;       // most that the pool ever held; whole caches only
  std::size_t workspace_bytes = 0;  // scratch, lent to open steps; not part of `bytes`
  std::size_t full_bytes_f16 = 0;   // what all tokens seen would take, every layer, 16 bit
  double bits_per_number = 0;       // of kept rows: bytes * 8 / (numbers of kept rows)
  double bytes_per_token = 0;       // bytes / tokens seen
  double compression = 0;           // full_bytes_f16 / bytes
  std::vector<head_report> kept;

  void print(std::ostream& out = std::cout) const {
    char line[160];
    const auto row = [&](const char* what, const char* format, auto... values) {
      std::snprintf(line, sizeof line, format, values...);
      out << "  " << what << std::string(std::string(what).size() < 18 ? 18 - std::string(what).size() : 1, ' ') << line
          << '\n';
    };
    out << "cache: " << sequences << (sequences == 1 ? " sequence, " : " sequences, ") << tokens << " tokens seen\n";
    row("rows kept", "%zu of %zu (%.1f %%)", rows_kept, rows_seen,
        rows_seen ? 100.0 * static_cast<double>(rows_kept) / static_cast<double>(rows_seen) : 0.0);
    row("bytes held", "%zu (pages %zu, full precision %zu, columns %zu%s)", bytes, page_bytes, window_bytes,
        column_bytes, ring_bytes ? ", queries" : "");
    if (peak_bytes > 0) row("at most so far", "%zu", peak_bytes);
    row("bits per number", "%.2f", bits_per_number);
    row("bytes per token", "%.1f", bytes_per_token);
    row("compression", "%.2fx against 16 bit, all rows (%zu bytes)", compression, full_bytes_f16);
  }
};

/// Derived figures, once the sums are in.
inline void finish_report(report_data& r, const model_shape& shape, const layer_plan& plan) {
  const std::size_t numbers = static_cast<std::size_t>(shape.head_dim + shape.value_dim);
  const std::size_t heads = static_cast<std::size_t>(shape.kv_heads);
  if (r.bytes == 0) r.bytes = r.page_bytes + r.window_bytes + r.column_bytes + r.ring_bytes;
  r.rows_seen = r.tokens * static_cast<std::size_t>(plan.slots()) * heads;
  r.full_bytes_f16 = r.tokens * static_cast<std::size_t>(shape.layers) * heads * numbers * 2;
  const auto held = static_cast<double>(r.bytes);
  if (r.rows_kept > 0) r.bits_per_number = held * 8 / static_cast<double>(r.rows_kept * numbers);
  if (r.tokens > 0) r.bytes_per_token = held / static_cast<double>(r.tokens);
  if (r.bytes > 0) r.compression = static_cast<double>(r.full_bytes_f16) / held;
}

/// Prints a report as a short aligned table.
inline void print(const report_data& r, std::ostream& out = std::cout) { r.print(out); }

}  // namespace tersekv
