// SPDX-License-Identifier: Apache-2.0
// Numbers that were chosen for speed. Results depend on them only by the order of sums.
#pragma once

namespace tersekv::detail::tuning {

// ------------------------------------------------------------------------------------------------------------- decode
inline constexpr int decode_warps = 4;               // of a block, each with a ring of its own
inline constexpr int decode_ring_bytes = 20 * 1024;  // of a warp: 3 stages where they fit, otherwise 2
inline constexpr int decode_blocks = 132 * 3;        // that a launch should have: the SMs of an H200, each with 3
inline constexpr int fewest_pieces = 8;  // of 32 rows, of a block: shorter splits cost more than they spread
inline constexpr int most_pieces = 128;  // longer ones leave unequal heads unbalanced
inline constexpr int number_pieces = 8;  // of rows that are numbers, of a block

}  // namespace tersekv::detail::tuning
