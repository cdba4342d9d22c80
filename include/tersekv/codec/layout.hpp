// SPDX-License-Identifier: Apache-2.0
// Template arguments that formats share: how the packed bytes of a tile lie, and whether packed groups are reopened.
//
// A format is one small struct per layout, specialised on the tag: all that knows where a code lies is in it. `rows` is
// the reference: what a kernel layout stores must decode to the same numbers.
#pragma once
#include <bit>
#include <concepts>

namespace tersekv {

namespace layout {
/// Codes of one row (or of one channel of a span) after each other as a little-endian bit stream; metadata in planes.
struct rows {};
}  // namespace layout

/// Packed groups of rows may be decoded and written again, so that single rows may leave. Every rewriting rounds anew;
/// the container does it only where two pages of a head fit into one.
struct reopened {
  static constexpr bool opens = true;
};
/// What is packed is never written again: rows leave by page, in order of position.
struct sealed {
  static constexpr bool opens = false;
};

static_assert(std::endian::native == std::endian::little, "tersekv: packed rows are little-endian");

}  // namespace tersekv
