// SPDX-License-Identifier: Apache-2.0
// Where may a leaving row go? A block for merge policies: the most similar of the rows that may take, for each of those
// that give.
#pragma once
#include <span>
#include <vector>

#include <tersekv/detail/eigen.hpp>
#include <tersekv/merge/fold_rows.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

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
