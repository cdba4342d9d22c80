// SPDX-License-Identifier: Apache-2.0
// Counts are int here and indices of containers are not.
#pragma once
#include <cstddef>

namespace test {

constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }

}  // namespace test
