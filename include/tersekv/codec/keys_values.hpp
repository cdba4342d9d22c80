// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/keys_values.hpp
//
// keys<Codec>, values<Codec>: the keys as one codec writes them, the values as another.
//
// Formula   K' from the first codec's key format, V' from the second one's value format; window and sinks: the larger
// Cost      as the two codecs
// Needs     nothing
// With      a half that is not named is dense<half>; naming a whole codec beside a half is an error
#pragma once
#include <algorithm>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <tersekv/codec/facts.hpp>
#include <tersekv/detail/name.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

namespace detail {
inline constexpr std::string_view keys_prefix = "keys:", values_prefix = "values:";
}

template <class Codec>
struct keys : Codec {
  using role = tersekv::role::key_codec;
  static constexpr std::string_view name = detail::joined_name<&detail::keys_prefix, &Codec::name>;
};

template <class Codec>
struct values : Codec {
  using role = tersekv::role::value_codec;
  static constexpr std::string_view name = detail::joined_name<&detail::values_prefix, &Codec::name>;
};

/// What the two halves compose to; users write the halves.
template <class Keys, class Values>
struct keys_values {
  using role = tersekv::role::codec;
  using key_format = typename Keys::key_format;
  using value_format = typename Values::value_format;
  static constexpr int window = std::max(Keys::window, Values::window);
  static constexpr int sinks = std::max(Keys::sinks, Values::sinks);
  using provides = tersekv::codec_facts<key_format, value_format, window>;

  Keys key_codec;
  Values value_codec;
  key_format for_keys() const { return key_codec.for_keys(); }
  value_format for_values() const { return value_codec.for_values(); }

  /// Takes the halves that a recipe names, in any order.
  template <class... Ps>
  static keys_values assemble(const std::tuple<Ps...>& ps) {
    keys_values out;
    if constexpr ((std::is_same_v<Keys, Ps> || ...)) out.key_codec = std::get<Keys>(ps);
    if constexpr ((std::is_same_v<Values, Ps> || ...)) out.value_codec = std::get<Values>(ps);
    return out;
  }
};

}  // namespace tersekv
