// SPDX-License-Identifier: Apache-2.0
// tersekv/read/read_all.hpp
//
// read_all: every query reads every row (the default).
//
// Needs     nothing
#pragma once
#include <limits>
#include <string_view>

#include <tersekv/policy.hpp>

namespace tersekv {

struct read_all {
  using role = tersekv::role::read;
  static constexpr std::string_view name = "read_all";
  static constexpr bool selects = false;
  std::size_t bytes(int) const { return 0; }
  void summarize(std::byte*, const float*, int, int, bool) const {}
  float bound(const float*, int, int, const std::byte*, int) const { return 0; }
  int pages(int) const { return std::numeric_limits<int>::max(); }
};

}  // namespace tersekv
