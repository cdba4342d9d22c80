// SPDX-License-Identifier: Apache-2.0
// tersekv/adapt/sinks.hpp
//
// sinks<N, Codec>: the first N positions of a sequence stay in 16 bit, the others are written by Codec.
//
// Paper     Liu et al., "IntactKV: Improving Large Language Model Quantization by Keeping Pivot Tokens Intact",
//           Findings of ACL 2024, arXiv:2403.01241; attention sinks after Xiao et al., arXiv:2309.17453
// Formula   position < N: x' = f16(x); otherwise as Codec
// Shapes    those of Codec, and [N, dim] f16 per head
// Differs   the pivot rows are not trained
// Cost      16 bits per number of N rows per head, otherwise as Codec
// Needs     nothing
// With      eviction may still let these rows go unless its policy protects them; the larger of two sinks counts
#pragma once
#include <algorithm>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/detail/name.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

template <int N, class Codec>
struct sink_tier {
  static_assert(N >= 0, "tersekv::sinks: a number of positions");
  using role = tersekv::role::codec;
  using key_format = typename Codec::key_format;
  using value_format = typename Codec::value_format;
  using provides = tersekv::codec_facts<key_format, value_format, Codec::window>;
  static constexpr std::string_view suffix = "@sinks";
  static constexpr std::string_view name = detail::joined_name<&Codec::name, &suffix>;
  static constexpr auto structure = detail::joined(detail::structure_of<Codec>(), std::array<int, 1>{N});
  static constexpr int window = Codec::window, sinks = std::max(N, Codec::sinks);

  Codec codec;

  template <class F>
  void tuning(F&& f) {
    if constexpr (requires { codec.tuning(f); }) codec.tuning(f);
  }
  key_format for_keys() const { return codec.for_keys(); }
  value_format for_values() const { return codec.for_values(); }
};

// The class cannot have the name of its own number, `sinks`.
template <int N, class Codec>
using sinks = sink_tier<N, Codec>;

}  // namespace tersekv
