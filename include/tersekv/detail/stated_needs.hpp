// SPDX-License-Identifier: Apache-2.0
// What a policy says that it needs, and how a broken rule speaks once.
#pragma once
#include <type_traits>

#include <tersekv/policy.hpp>

namespace tersekv::detail {

template <class P>
struct stated_needs {
  using type = list<>;
};
template <class P>
requires requires { typename P::needs; }
struct stated_needs<P> {
  using type = typename P::needs;
};
template <class Fact, class List>
inline constexpr bool contains = false;
template <class Fact, class... Fs>
inline constexpr bool contains<Fact, list<Fs...>> = (std::is_same_v<Fact, Fs> || ...);
template <class Fact, class P>
inline constexpr bool states_need = contains<Fact, typename stated_needs<P>::type>;

/// Overload resolution must complete the pointed-to type, which makes its assertion speak, and goes on without it:
/// clang would call everything invalid that derives from a type whose assertion failed.
struct anchor {};
void speak(const anchor*);
void speak(const void*);

}  // namespace tersekv::detail
