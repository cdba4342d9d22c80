// SPDX-License-Identifier: Apache-2.0
// Composition: picks one policy per role, whatever their order, fills in the defaults, and answers the question whether
// they fit together with one sentence. The rules, first broken one speaks:
//   1. everything named is a policy        4. the policy answers its role's questions (concepts of policy.hpp)
//   2. no role is filled twice             5. every need is provided by somebody
//   3. a backend is named                  6. on a device, kernels can call every policy that they must
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

#include <tersekv/backend/cpu.hpp>
#include <tersekv/backend/cuda/device_form.hpp>
#include <tersekv/budget/uniform.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/keys_values.hpp>
#include <tersekv/detail/stated_needs.hpp>
#include <tersekv/evict/keep_all.hpp>
#include <tersekv/merge/drop.hpp>
#include <tersekv/policy.hpp>
#include <tersekv/read/read_all.hpp>
#include <tersekv/rotary/unknown_rotation.hpp>
#include <tersekv/share/own.hpp>

namespace tersekv {

template <class Backend, class Share, class Evict, class Budget, class Merge, class Codec, class Read, class Rotary>
class basic_cache;

namespace detail {

// ------------------------------------------------------------------------------------------- rules and their sentences
using fine = no_flaw;

template <class P>
struct not_a_policy {
  static_assert(never<P>,
                "tersekv::cache: this type is not a policy. A policy names its role: using role = "
                "tersekv::role::evict; see docs/adding_a_policy.md");
};
template <class P>
struct role_is_a_value {
  static_assert(never<P>,
                "tersekv::cache: this policy gives its role as a value, but a role is a type. Write: using role = "
                "tersekv::role::evict;");
};
template <class Role, class First, class Second>
struct role_filled_twice {
  static_assert(never<Role>,
                "tersekv::cache: two policies fill the same role, and a cache has one of each. Name only one of them; "
                "adaptors such as tersekv::sinks<4, Codec> or tersekv::cache_positions<Evict> wrap a policy instead.");
};
template <class... Ps>
struct no_backend {
  static_assert(never<Ps...>,
                "tersekv::cache: no backend is named. Write where the cache computes: tersekv::cache<tersekv::cpu, "
                "...>, or tersekv::make_cache(shape, tersekv::cpu{}, ...).");
};
template <class P, class Role>
struct incomplete {
  static_assert(never<P>,
                "tersekv::cache: this policy names a role that the cache does not know. Roles are in "
                "tersekv/policy.hpp, such as tersekv::role::evict.");
};
template <class P>
struct incomplete<P, role::evict> {
  static_assert(never<P>,
                "tersekv::cache: this eviction policy is incomplete. Write: static constexpr int columns = 0; "
                "tersekv::trigger when; int budget() const; tersekv::protection protects(tersekv::row) const; void "
                "score(const tersekv::scored_head&, std::span<float>) const;");
};
template <class P>
struct incomplete<P, role::share> {
  static_assert(never<P>,
                "tersekv::cache: this share policy is incomplete. Write: tersekv::layer_plan plan(int layers) "
                "const;");
};
template <class P>
struct incomplete<P, role::budget> {
  static_assert(never<P>,
                "tersekv::cache: this budget policy is incomplete. Write: static constexpr bool needs_scores = false; "
                "void allocate(const tersekv::budget_request&, std::span<int> rows) const;");
};
template <class P>
struct incomplete<P, role::merge> {
  static_assert(never<P>,
                "tersekv::cache: this merge policy is incomplete. Write: static constexpr int columns = 0; static "
                "constexpr bool folds = true; struct head_state {}; void fold(tersekv::fold_head&, head_state&) "
                "const;");
};
template <class P>
struct incomplete<P, role::codec> {
  static_assert(
      never<P>,
      "tersekv::cache: this codec is incomplete. Write: using key_format = ...; using value_format = ...; "
      "static constexpr int window = 0, sinks = 0; key_format for_keys() const; value_format for_values() const; "
      "formats have span, opens, check, bytes, encode, decode (tersekv/policy.hpp).");
};
template <class P>
struct incomplete<P, role::read> {
  static_assert(never<P>,
                "tersekv::cache: this read policy is incomplete. Write: static constexpr bool selects = true; "
                "std::size_t bytes(int) const; void summarize(std::byte*, const float*, int, int, bool) const; float "
                "bound(const float*, const std::byte*, int) const; int pages(int) const;");
};
template <class P>
struct incomplete<P, role::rotary> {
  static_assert(never<P>,
                "tersekv::cache: this rotation is incomplete. Write: void angles(int positions, int dim, "
                "float* turns) const; void turn(float* x, int dim, const float* turns) const;");
};
template <class P>
struct incomplete<P, role::backend> {
  static_assert(never<P>,
                "tersekv::cache: this backend is incomplete. It must offer the verbs of "
                "tersekv/backend/backend.hpp.");
};

// -------------------------------------------------------------------------------------------------------- picking
// roles
template <class P>
concept names_role = requires {
  typename P::role;
};
template <class P>
concept names_role_as_value = !names_role<P> && requires {
  P::role;
};

template <class P>
struct role_of_ {
  using type = void;
};
template <names_role P>
struct role_of_<P> {
  using type = typename P::role;
};
template <class P>
using role_of = typename role_of_<P>::type;

template <class P>
struct flaw_of {
  using type = fine;
};
template <class P>
requires requires { typename P::flaw; }
struct flaw_of<P> {
  using type = typename P::flaw;
};

/// The first of Ps with this role, or Default.
template <class Role, class Default, class... Ps>
struct pick {
  using type = Default;
};
template <class Role, class Default, class P, class... Ps>
struct pick<Role, Default, P, Ps...>
    : std::conditional_t<std::is_same_v<role_of<P>, Role>, std::type_identity<P>, pick<Role, Default, Ps...>> {};

/// A codec fills both halves, so it collides with a half.
template <class A, class B>
inline constexpr bool collide = std::is_same_v<A, B> ||
                                (std::is_same_v<A, role::codec> &&
                                 (std::is_same_v<B, role::key_codec> || std::is_same_v<B, role::value_codec>));

template <class... Ps>
struct resolved {
  template <class Role, class Default>
  using get = typename pick<Role, Default, Ps...>::type;
  using halves = keys_values<get<role::key_codec, keys<dense<half>>>, get<role::value_codec, values<dense<half>>>>;
  static constexpr bool has_half =
      ((std::is_same_v<role_of<Ps>, role::key_codec> || std::is_same_v<role_of<Ps>, role::value_codec>) || ...);
  using codec = get<role::codec, std::conditional_t<has_half, halves, dense<half>>>;
  using all =
      list<get<role::backend, cpu>, get<role::share, own>, get<role::evict, keep_all>, get<role::budget, uniform>,
           get<role::merge, drop>, codec, get<role::read, read_all>, get<role::rotary, unknown_rotation>>;
};

// ----------------------------------------------------------------------------------------------------------------
// facts
template <class P>
struct stated_provides {
  using type = list<>;
};
template <class P>
requires requires { typename P::provides; }
struct stated_provides<P> {
  using type = typename P::provides;
};

template <class P>
constexpr bool evicts_single_rows() {
  if constexpr (std::is_same_v<role_of<P>, role::evict>) {
    if constexpr (requires { P::in_order; }) return !P::in_order;
    return !std::is_same_v<P, keep_all>;
  }
  return false;
}
template <class P>
constexpr bool folds_rows() {
  if constexpr (requires { P::folds; }) return P::folds;
  return false;
}
template <class P>
constexpr bool compares_scores() {
  if constexpr (requires { P::needs_scores; }) return P::needs_scores;
  return false;
}

/// Needs that follow from what a policy is, so that its author cannot forget them.
template <class Fact, class P>
inline constexpr bool implied_need = false;
template <class P>
inline constexpr bool implied_need<fact::single_rows_may_leave, P> = evicts_single_rows<P>();
template <class P>
inline constexpr bool implied_need<fact::rewritable_rows, P> = folds_rows<P>();
template <class P>
inline constexpr bool implied_need<fact::rows_leave, P> = folds_rows<P>() ||
                                                          (std::is_same_v<role_of<P>, role::budget> &&
                                                           !std::is_same_v<P, uniform>);
template <class P>
inline constexpr bool implied_need<fact::comparable_scores, P> = compares_scores<P>();

template <class Fact, class P>
inline constexpr bool needs = states_need<Fact, P> || implied_need<Fact, P>;
template <class Fact, class P>
inline constexpr bool provides = contains<Fact, typename stated_provides<P>::type> ||
                                 (std::is_same_v<Fact, fact::rows_leave> && std::is_same_v<role_of<P>, role::evict> &&
                                  !std::is_same_v<P, keep_all>);

template <class Fact, class All>
inline constexpr bool provided = false;
template <class Fact, class... Ps>
inline constexpr bool provided<Fact, list<Ps...>> = (provides<Fact, Ps> || ...);
template <class Fact, class All>
inline constexpr bool needed = false;
template <class Fact, class... Ps>
inline constexpr bool needed<Fact, list<Ps...>> = (needs<Fact, Ps> || ...);

/// In the order in which they are checked: broad needs first.
using every_fact =
    list<fact::rows_leave, fact::comparable_scores, fact::attention_mass, fact::last_attention, fact::query_window,
         fact::readable_keys, fact::rotation, fact::single_rows_may_leave, fact::rewritable_rows>;

// ----------------------------------------------------------------------------------------------------- the first
// broken
template <bool Broken, class Rule, class Next>
struct select_rule : std::conditional_t<Broken, std::type_identity<Rule>, Next> {};
struct all_fine {
  using type = fine;
};

template <class All, class Facts>
struct missing_fact : all_fine {};
template <class All, class Fact, class... Facts>
struct missing_fact<All, list<Fact, Facts...>> : missing_fact<All, list<Facts...>> {};
template <class... Ps, class Fact, class... Facts>
requires(needed<Fact, list<Ps...>> &&
         !provided<Fact, list<Ps...>>) struct missing_fact<list<Ps...>, list<Fact, Facts...>> {
  template <class... Qs>
  struct culprit;
  template <class Q, class... Qs>
  struct culprit<Q, Qs...>
      : std::conditional_t<needs<Fact, Q>, std::type_identity<typename Fact::template is_missing<Q, list<Ps...>>>,
                           culprit<Qs...>> {};
  template <class Q>
  struct culprit<Q> {
    using type = typename Fact::template is_missing<Q, list<Ps...>>;
  };
  using type = typename culprit<Ps...>::type;
};

template <class P>
constexpr bool answers_its_role() {
  using R = role_of<P>;
  if constexpr (std::is_same_v<R, role::share>)
    return sharer<P>;
  else if constexpr (std::is_same_v<R, role::evict>)
    return evictor<P>;
  else if constexpr (std::is_same_v<R, role::budget>)
    return budgeter<P>;
  else if constexpr (std::is_same_v<R, role::merge>)
    return merger<P>;
  else if constexpr (std::is_same_v<R, role::codec>)
    return codec<P>;
  else if constexpr (std::is_same_v<R, role::read>)
    return reader<P>;
  else if constexpr (std::is_same_v<R, role::rotary>)
    return rotator<P>;
  else if constexpr (std::is_same_v<R, role::backend>)
    return backend<P>;
  else
    return std::is_same_v<R, role::key_codec> || std::is_same_v<R, role::value_codec>;
}

template <class... Ps>
struct unknown_type : all_fine {};
template <class P, class... Ps>
struct unknown_type<P, Ps...> : select_rule<names_role_as_value<P>, role_is_a_value<P>,
                                            select_rule<!names_role<P> && !names_role_as_value<P>, not_a_policy<P>,
                                                        select_rule<!std::is_same_v<typename flaw_of<P>::type, fine>,
                                                                    typename flaw_of<P>::type, unknown_type<Ps...>>>> {
};

template <class... Ps>
struct filled_twice : all_fine {};
template <class P, class Q, class... Ps>
struct filled_twice<P, Q, Ps...> {
  template <class R>
  static constexpr bool clash = collide<role_of<P>, role_of<R>> || collide<role_of<R>, role_of<P>>;
  template <class... Rs>
  struct among : filled_twice<Q, Ps...> {};
  template <class R, class... Rs>
  struct among<R, Rs...> : select_rule<clash<R>, role_filled_twice<role_of<P>, P, R>, among<Rs...>> {};
  using type = typename among<Q, Ps...>::type;
};

template <class... Ps>
struct incomplete_policy : all_fine {};
template <class P, class... Ps>
struct incomplete_policy<P, Ps...>
    : select_rule<!answers_its_role<P>(), incomplete<P, role_of<P>>, incomplete_policy<Ps...>> {};

template <class T>
inline constexpr bool is_fine = std::is_same_v<T, fine>;

/// Each rule is looked at only when the ones before it hold.
template <int Rule, class... Ps>
struct first_broken : all_fine {};
template <class... Ps>
struct rule_result;
template <int Rule, class Found, class... Ps>
struct continue_unless : std::conditional_t<is_fine<Found>, first_broken<Rule, Ps...>, std::type_identity<Found>> {};
template <class... Ps>
struct first_broken<1, Ps...> : continue_unless<2, typename unknown_type<Ps...>::type, Ps...> {};
template <class... Ps>
struct first_broken<2, Ps...> : continue_unless<3, typename filled_twice<Ps...>::type, Ps...> {};
template <class... Ps>
struct first_broken<3, Ps...>
    : continue_unless<
          4, std::conditional_t<(std::is_same_v<role_of<Ps>, role::backend> || ...), fine, no_backend<Ps...>>, Ps...> {
};
template <class... Ps>
struct first_broken<4, Ps...> : continue_unless<5, typename incomplete_policy<Ps...>::type, Ps...> {};
template <class... Ps>
struct first_broken<5, Ps...>
    : continue_unless<6, typename missing_fact<typename resolved<Ps...>::all, every_fact>::type, Ps...> {};
template <class... Ps>
struct first_broken<6, Ps...>
    : std::conditional_t<(device_backend<Ps> || ...), flaw_on_device<typename resolved<Ps...>::all>,
                         std::type_identity<fine>> {};

// ------------------------------------------------------------------------------------------------------------ the
// result
template <class All>
struct as_cache;
template <class... Ps>
struct as_cache<list<Ps...>> {
  using type = basic_cache<Ps...>;
};

template <class Broken, class... Ps>
struct build {  // a harmless cache stands in, so that nothing else fails
  using spoken = decltype(speak(static_cast<Broken*>(nullptr)));
  using type = typename as_cache<typename resolved<cpu>::all>::type;
  static constexpr bool good = false;
};
template <class... Ps>
struct build<fine, Ps...> {
  using type = typename as_cache<typename resolved<Ps...>::all>::type;
  static constexpr bool good = true;
};
template <class... Ps>
using composed = build<typename first_broken<1, Ps...>::type, Ps...>;

/// True when the recipe compiles; says nothing otherwise (used by generated tests and by menus).
template <class... Ps>
inline constexpr bool composes = is_fine<typename first_broken<1, Ps...>::type>;

/// The policy with this role among `ps`, or a default one.
template <class Want, class... Ps>
Want choose(const std::tuple<Ps...>& ps) {
  if constexpr ((std::is_same_v<Want, Ps> || ...))
    return std::get<Want>(ps);
  else if constexpr (requires { Want::assemble(ps); })
    return Want::assemble(ps);
  else
    return Want{};
}

}  // namespace detail

/// True when the policies fit together; `cache<Ps...>` would otherwise explain why not.
template <class... Ps>
inline constexpr bool composes = detail::composes<Ps...>;

/// The cache made of these policies, in any order: equal recipes are one type.
template <class... Ps>
using cache = typename detail::composed<Ps...>::type;

}  // namespace tersekv
