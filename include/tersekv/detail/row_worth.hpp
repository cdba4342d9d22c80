// SPDX-License-Identifier: Apache-2.0
// The order in which rows stay, as one integer per row: on the CPU and on a device alike.
#pragma once
#include <cstdint>

#include <tersekv/detail/bit_cast.hpp>
#include <tersekv/policy.hpp>

namespace tersekv::detail {

/// A score as an integer of the same order; NaN lowest, both zeros alike.
TERSEKV_HD inline std::uint32_t ordered(float score) {
  if (score != score) return 0;
  const auto bits = bit_cast<std::uint32_t>(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// Of row j of a list; 0 = it stays or leaves whatever the others are. Protected rows first, then scores, then the
/// newer row: no two rows are alike.
TERSEKV_HD inline std::uint64_t row_worth(protection guard, bool expired, float score, int j) {
  if (expired || guard == protection::caller) return 0;
  const std::uint64_t rank = guard == protection::none ? ordered(score) : 0;
  return static_cast<std::uint64_t>(guard) << 62 | rank << 30 | static_cast<std::uint64_t>(j + 1);
}
/// The row that has it.
TERSEKV_HD inline int row_of_worth(std::uint64_t worth) { return static_cast<int>(worth & ((1u << 30) - 1)) - 1; }

}  // namespace tersekv::detail
