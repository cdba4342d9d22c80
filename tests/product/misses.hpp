// SPDX-License-Identifier: Apache-2.0
// Whether the type that speaks for a refused recipe says that this fact is missing.
#pragma once
#include <tersekv/compose.hpp>

namespace test {

template <class Fact, class T>
inline constexpr bool misses = false;

template <class Who, class Among>
inline constexpr bool misses<tersekv::fact::rows_leave, tersekv::fact::rows_leave::is_missing<Who, Among>> = true;
template <class Who, class Among>
inline constexpr bool
    misses<tersekv::fact::comparable_scores, tersekv::fact::comparable_scores::is_missing<Who, Among>> = true;
template <class Who, class Among>
inline constexpr bool
    misses<tersekv::fact::single_rows_may_leave, tersekv::fact::single_rows_may_leave::is_missing<Who, Among>> = true;
template <class Who, class Among>
inline constexpr bool misses<tersekv::fact::rewritable_rows, tersekv::fact::rewritable_rows::is_missing<Who, Among>> =
    true;

}  // namespace test
