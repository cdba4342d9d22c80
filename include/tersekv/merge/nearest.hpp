// SPDX-License-Identifier: Apache-2.0
// Where may a leaving row go? Blocks for merge policies: which rows may leave their content behind, which rows may be
// rewritten, and the most similar of the latter for each of the former.
#pragma once
#include <span>
#include <vector>

#include <tersekv/detail/eigen.hpp>
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

/// A row and how similar it is.
struct neighbour {
  int row;
  float cosine;  // of the keys, in [-1, 1]; 0 with a zero key
};

/// For every row of `from` the row of `to` with the largest cosine of keys; ties go to the newer row. `to` is not
/// empty. Cost: |from| |to| key_dim products, in blocks.
inline std::vector<neighbour> nearest_by_key(const fold_head& head, std::span<const int> from,
                                             std::span<const int> to) {
  const auto unit_keys = [&](std::span<const int> rows) {  // [rows, key_dim]
    detail::matrix out(static_cast<Eigen::Index>(rows.size()), head.key_dim);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      auto row = out.row(static_cast<Eigen::Index>(i));
      row = detail::const_matrix_map(head.key(rows[i]).data(), 1, head.key_dim);
      const float norm = row.stableNorm();
      if (norm > 0) row /= norm;
    }
    return out;
  };
  constexpr std::size_t block = 64;
  const detail::matrix there = unit_keys(to);
  std::vector<neighbour> out;
  for (std::size_t first = 0; first < from.size(); first += block) {
    const detail::matrix cosine =
        unit_keys(from.subspan(first, std::min(block, from.size() - first))) * there.transpose();
    for (Eigen::Index i = 0; i < cosine.rows(); ++i) {
      Eigen::Index best = 0;
      for (Eigen::Index j = 1; j < cosine.cols(); ++j)
        if (cosine(i, j) >= cosine(i, best)) best = j;
      out.push_back({to[static_cast<std::size_t>(best)], cosine(i, best)});
    }
  }
  return out;
}

}  // namespace tersekv
