// SPDX-License-Identifier: Apache-2.0
// tersekv/adapt/cache_positions.hpp
//
// cache_positions<Evict>: attention counts positions inside the cache, so that they never grow beyond its size.
//
// Paper     Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024, arXiv:2309.17453
//           (section 3.2)
// Formula   a key at text position p, i-th row of its head, is turned by i - p; a query behind n rows by n - p
// Shapes    as Evict
// Differs   the paper stores keys before rotation; here they are stored as the model rotated them and are turned from
//           there at every read, never from an earlier turn, so that errors do not add up
// Cost      one rotation per row and read, on top of attention
// Needs     the model's rotation (rope), and what Evict needs
// With      streaming_llm, as in the paper; with others, heads that keep different rows also place them differently
#pragma once
#include <string_view>
#include <type_traits>

#include <tersekv/detail/name.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

namespace detail {
inline constexpr std::string_view cache_positions_suffix = "@cache";

template <class Evict>
struct needs_and_rotation {
  using type = list<fact::rotation>;
};
template <class... Facts>
struct needs_and_rotation<list<Facts...>> {
  using type = list<Facts..., fact::rotation>;
};
template <class Evict>
requires requires { typename Evict::needs; }
struct needs_and_rotation<Evict> : needs_and_rotation<typename Evict::needs> {};

template <class Evict>
constexpr bool keeps_all_rows() {
  if constexpr (requires { Evict::keeps_all; }) return Evict::keeps_all;
  return false;
}
template <class Evict>
struct nothing_leaves {
  static_assert(never<Evict>,
                "tersekv::cache_positions: where all rows are kept, positions in the cache are positions in the text; "
                "give it an eviction policy that lets rows go, such as "
                "tersekv::cache_positions<tersekv::streaming_llm>");
};
}  // namespace detail

template <class Evict>
struct cache_positions : Evict {
  using flaw = std::conditional_t<detail::keeps_all_rows<Evict>(), detail::nothing_leaves<Evict>, no_flaw>;
  using needs = typename detail::needs_and_rotation<Evict>::type;
  static constexpr std::string_view name = detail::joined_name<&Evict::name, &detail::cache_positions_suffix>;
  static constexpr bool renumbers = true;
};
template <class Evict>
cache_positions(Evict) -> cache_positions<Evict>;

}  // namespace tersekv
