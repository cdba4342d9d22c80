// SPDX-License-Identifier: Apache-2.0
// tersekv/merge/drop.hpp
//
// drop: what leaves is gone (the default).
//
// Needs     nothing
#pragma once
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct drop {
  using role = tersekv::role::merge;
  static constexpr std::string_view name = "drop";
  static constexpr int columns = 0;
  static constexpr bool folds = false;
  struct head_state {};
  void fold(fold_head&, head_state&) const {}
};

}  // namespace tersekv
