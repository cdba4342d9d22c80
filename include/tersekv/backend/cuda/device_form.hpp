// SPDX-License-Identifier: Apache-2.0
// Which policies kernels can call. Policies that say something per row do it by TERSEKV_HD functions (policy.hpp);
// those that look at many rows at once name a struct, `using on_device = ...`, whose kernels stand in a .cuh file
// beside them.
#pragma once
#include <type_traits>

#include <tersekv/detail/stated_needs.hpp>

namespace tersekv::detail {

template <class P>
concept scores_rows = requires(const P p, const row_signals& rows) {
  { p.score(rows, 0) } -> std::same_as<float>;
};
template <class P>
concept works_on_device = requires {
  typename P::on_device;
};
template <class P>
concept keeps_all_rows_ever = requires {
  P::keeps_all;
};
template <class P>
concept has_columns_for_hosts_only = requires(const P p, std::span<float> s, const observation& o) {
  p.observe(s, o);
}
|| requires(const P p, std::span<float> s, std::span<const float> k) { p.insert(s, k); };

template <class P>
concept turns_keys = requires {
  requires P::renumbers;  // kernels read keys as they are stored
};

template <class P, class Role>
inline constexpr bool has_form_for = true;
template <class P>
inline constexpr bool has_form_for<P, role::evict> = (scores_rows<P> || works_on_device<P> ||
                                                      keeps_all_rows_ever<P>)&&!has_columns_for_hosts_only<P> &&
                                                     !turns_keys<P>;
template <class P>
inline constexpr bool has_form_for<P, role::budget> = works_on_device<P> || requires(const P p, const slot_rows& s) {
  { p.rows_per_head(s) } -> std::same_as<int>;
};
template <class P>
inline constexpr bool has_form_for<P, role::merge> = (works_on_device<P> || !P::folds) &&
                                                     !has_columns_for_hosts_only<P>;
template <class P>
inline constexpr bool has_form_for<P, role::read> = works_on_device<P> || !P::selects;

/// Roles whose policies stay on the host: what they answer is known before kernels run.
template <class Role>
inline constexpr bool on_host_only =
    std::is_same_v<Role, role::backend> || std::is_same_v<Role, role::share> || std::is_same_v<Role, role::rotary>;

/// Whether kernels can call the policy.
template <class P>
inline constexpr bool has_device_form = on_host_only<typename P::role> ||
                                        (has_form_for<P, typename P::role> && std::is_trivially_copyable_v<P>);

template <class P>
struct no_device_form {
  static_assert(
      never<P>,
      "tersekv::cuda: kernels cannot call this policy. Give it functions for one row, such as TERSEKV_HD float "
      "score(const tersekv::row_signals&, int) const, without members that own memory (see "
      "docs/adding_a_policy.md), or use tersekv::cpu.");
};

/// The first policy without device form, as a type that says so; or no_flaw.
template <class... Ps>
struct device_flaw {
  using type = no_flaw;
};
template <class P, class... Ps>
struct device_flaw<P, Ps...>
    : std::conditional_t<has_device_form<P>, device_flaw<Ps...>, std::type_identity<no_device_form<P>>> {};

/// The same for a list of policies.
template <class All>
struct flaw_on_device;
template <class... Ps>
struct flaw_on_device<list<Ps...>> : device_flaw<Ps...> {};

/// True, or false after the compiler said why not.
template <class... Ps>
struct have_device_forms {
  using flaw = typename device_flaw<Ps...>::type;
  using spoken = decltype(speak(static_cast<flaw*>(nullptr)));
  static constexpr bool value = std::is_same_v<flaw, no_flaw>;
};

}  // namespace tersekv::detail
