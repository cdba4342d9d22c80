// SPDX-License-Identifier: Apache-2.0
// Blocks for merge policies: which rows may leave their content behind, which rows may be rewritten.
#pragma once
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

/// Rows that take part in folding, ascending.
struct fold_rows {
  std::vector<int> from;  // leaving rows
  std::vector<int> to;    // staying rows that the codec lets us rewrite
};

/// Sinks and rows that the caller protects take part only where `guarded` is set: their attention is not of the kind
/// that may be averaged. Recent rows never give (they leave only where a budget is smaller than the window); they take
/// where `into_recent` is set.
inline fold_rows rows_to_fold(const fold_head& head, bool into_recent, bool guarded) {
  fold_rows rows;
  const auto kept_apart = [&](int i) {
    return !guarded && head.guard[static_cast<std::size_t>(i)] > protection::recent;
  };
  const auto recent = [&](int i) { return head.guard[static_cast<std::size_t>(i)] == protection::recent; };
  for (const int e : head.leave)
    if (!kept_apart(e) && !recent(e)) rows.from.push_back(e);
  for (const int c : head.stay)
    if (!kept_apart(c) && (into_recent || !recent(c)) && head.writable[static_cast<std::size_t>(c)])
      rows.to.push_back(c);
  return rows;
}

}  // namespace tersekv
