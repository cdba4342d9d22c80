// SPDX-License-Identifier: Apache-2.0
// tersekv/evict/keep_all.hpp
//
// keep_all, full: no row ever leaves (the default).
//
// Needs     nothing
#pragma once
#include <limits>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct keep_all {
  using role = tersekv::role::evict;
  static constexpr std::string_view name = "full";
  static constexpr int columns = 0;
  static constexpr bool keeps_all = true;
  static constexpr trigger when{false, 0, 0};
  void score(const scored_head&, std::span<float>) const {}
  TERSEKV_HD protection protects(row) const { return protection::caller; }
  int budget() const { return std::numeric_limits<int>::max(); }
};
using full = keep_all;

}  // namespace tersekv
