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

#include <tersekv/detail/name.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

namespace detail {
inline constexpr std::string_view log_mass_prefix = "log_mass_";

template <class Merge>
struct needs_of_merge {
  using type = list<>;
};
template <class Merge>
  requires requires { typename Merge::needs; }
struct needs_of_merge<Merge> {
  using type = typename Merge::needs;
};
}  // namespace detail

template <class Merge>
struct log_mass {
  static_assert(merger<Merge> && Merge::folds,
                "tersekv::log_mass: give it a merge policy that folds rows, such as tersekv::log_mass<tersekv::d2o>");
  using role = tersekv::role::merge;
  using needs = typename detail::needs_of_merge<Merge>::type;
  using head_state = typename Merge::head_state;
  static constexpr std::string_view name = detail::joined_name<detail::log_mass_prefix, Merge::name>;
  static constexpr int columns = Merge::columns;
  static constexpr bool folds = true;
  static constexpr bool carries_mass = true;  // the container keeps log p; fold_head::absorb moves it

  Merge merge = {};

  template <class F>
  void tuning(F&& f)
    requires requires(Merge m) { m.tuning(f); }
  {
    merge.tuning(f);
  }
  void insert(std::span<float> row, std::span<const float> key) const
    requires requires(const Merge m) { m.insert(row, key); }
  {
    merge.insert(row, key);
  }
  void observe(std::span<float> row, const observation& o) const
    requires requires(const Merge m) { m.observe(row, o); }
  {
    merge.observe(row, o);
  }
  void fold(fold_head& head, head_state& state) const { merge.fold(head, state); }
};
template <class Merge>
log_mass(Merge) -> log_mass<Merge>;

}  // namespace tersekv
