// SPDX-License-Identifier: Apache-2.0
// tersekv/adapt/log_mass.hpp
//
// log_mass<Merge>: every row remembers how many tokens it stands for, and attention counts it that often.
//
// Paper     Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv:2210.09461 (proportional attention)
// Formula   logit of row j += log p_j; p_j = 1 for a token; p_c <- p_c + p_e where row e is folded into row c
// Shapes    log p [kv_heads, n] f32
// Differs   nothing known; Merge still decides who is folded into whom, and its weights do not look at p
// Cost      4 bytes per row and KV head; one addition per logit
// Needs     what Merge needs
// With      identical rows: folding them leaves the attention of every query as it was. Rows that differ: the mean of
//           keys, with log p, receives less than its members did together (Jensen), without log p far less. A policy
//           that drops keys (weighted_kv) has nothing to count: its rows would be attended to too much
#pragma once
#include <string_view>
#include <type_traits>

#include <tersekv/detail/name.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

namespace detail {
inline constexpr std::string_view log_mass_suffix = "@log_mass";

template <class Merge>
struct log_mass_of_nothing {
  static_assert(never<Merge>,
                "tersekv::log_mass: give it a merge policy that folds rows, such as tersekv::log_mass<tersekv::d2o>");
};
}  // namespace detail

template <class Merge>
struct log_mass : Merge {
  using flaw = std::conditional_t<Merge::folds, no_flaw, detail::log_mass_of_nothing<Merge>>;
  static constexpr std::string_view name = detail::joined_name<&Merge::name, &detail::log_mass_suffix>;
  static constexpr bool carries_mass = true;  // the container keeps log p; fold_head::absorb moves it
};
template <class Merge>
log_mass(Merge) -> log_mass<Merge>;

}  // namespace tersekv
