// SPDX-License-Identifier: Apache-2.0
// tersekv/share/own.hpp
//
// own: every layer has a slot of its own (the default).
//
// Formula   kv(i) = i
// Needs     nothing
#pragma once
#include <numeric>
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

struct own {
  using role = tersekv::role::share;
  static constexpr std::string_view name = "own";
  layer_plan plan(int layers) const {
    std::vector<int> kv(static_cast<std::size_t>(layers));
    std::iota(kv.begin(), kv.end(), 0);
    return layer_plan(std::move(kv));
  }
};

}  // namespace tersekv
