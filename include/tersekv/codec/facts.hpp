// SPDX-License-Identifier: Apache-2.0
// What a codec provides to other policies, derived from its two formats and its window.
#pragma once
#include <tersekv/policy.hpp>

namespace tersekv {

namespace detail {
template <bool Single, bool Rewritable>
struct facts_of_codec;
template <>
struct facts_of_codec<true, true> {
  using type = list<fact::readable_keys, fact::single_rows_may_leave, fact::rewritable_rows>;
};
template <>
struct facts_of_codec<true, false> {
  using type = list<fact::readable_keys, fact::single_rows_may_leave>;
};
template <>
struct facts_of_codec<false, true> {
  using type = list<fact::readable_keys, fact::rewritable_rows>;
};
template <>
struct facts_of_codec<false, false> {
  using type = list<fact::readable_keys>;
};
}  // namespace detail

/// Single rows may leave where both formats reopen. Rows may be rewritten in a full-precision window, or in place where
/// both formats write each row alone.
template <class KeyFormat, class ValueFormat, int Window>
using codec_facts = typename detail::facts_of_codec<
    KeyFormat::opens && ValueFormat::opens,
    (KeyFormat::opens && ValueFormat::opens && KeyFormat::span == 1 && ValueFormat::span == 1) || (Window > 0)>::type;

}  // namespace tersekv
