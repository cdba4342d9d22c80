// SPDX-License-Identifier: Apache-2.0
// tersekv/budget/uniform.hpp
//
// uniform: every slot and head keeps the number of rows that the eviction policy names (the default).
//
// Needs     nothing
#pragma once
#include <algorithm>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct uniform {
  using role = tersekv::role::budget;
  static constexpr std::string_view name = "uniform";
  static constexpr bool needs_scores = false;
  void allocate(const budget_request& request, std::span<int> rows) const {
    std::fill(rows.begin(), rows.end(), rows_per_head(request.counts()));
  }
  TERSEKV_HD int rows_per_head(const slot_rows& slot) const { return slot.rows; }
};

}  // namespace tersekv
