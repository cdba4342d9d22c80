// SPDX-License-Identifier: Apache-2.0
// tersekv/adapt/through.hpp
//
// through<Transform, Codec>: rows are transformed before Codec writes them.
//
// Paper     Ashkboos et al., "QuaRot", NeurIPS 2024, arXiv:2404.00456, for Transform = hadamard
// Formula   keys: codes of key(k), k' = restore_key(x'); values: codes of value(v), v' = output(x')
// Shapes    those of Codec
// Differs   rows of the window and sinks are stored as they came; decoding returns to the original basis, row by row;
//           numbers saturate at 65504 before they are transformed, so that sums of them stay finite
// Cost      the bits of Codec; one transform per written row and one per decoded row
// Needs     what Transform needs of the head dimension; Span rows (1, or kivi's group) of up to 1024 * min(Span, 32)
//           numbers in all
// With      the error of a row has the same length in both bases, but is spread over all its channels
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/grid.hpp>
#include <tersekv/detail/name.hpp>
#include <tersekv/error.hpp>
#include <tersekv/policy.hpp>
#include <tersekv/transform/hadamard.hpp>

namespace tersekv {

template <transform Transform, class Format, bool Keys>
struct through_format {
  static constexpr int span = Format::span;
  static constexpr bool opens = Format::opens;
  static constexpr int most = 1024 * std::min(span, 32);  // numbers of a span

  Transform turn;
  Format inner;

  void check(int dim) const {
    turn.check(dim);
    inner.check(dim);
    if (dim > most / span)
      throw shape_error("tersekv::through: the head dimension is " + std::to_string(dim) + ", but at most " +
                        std::to_string(most / span) + " with groups of " + std::to_string(span) + " rows");
  }
  std::size_t bytes(int rows, int dim) const { return inner.bytes(rows, dim); }

  void encode(const float* x, int dim, std::byte* tile, int rows, int first, int count) const {
    std::array<float, most> turned;
    for (int r = first; r < first + count; r += span, x += span * dim) {
      std::transform(x, x + span * dim, turned.data(),
                     [](float v) { return grid::clamp(v, -largest_half, largest_half); });
      for (int t = 0; t < span; ++t) forward(turned.data() + t * dim, dim);
      inner.encode(turned.data(), dim, tile, rows, r, span);
    }
  }
  void decode(const std::byte* tile, int rows, int first, int count, int dim, float* x) const {
    inner.decode(tile, rows, first, count, dim, x);
    for (int r = 0; r < count; ++r) {
      if constexpr (Keys)
        turn.restore_key(x + r * dim, dim);
      else
        turn.output(x + r * dim, dim);
    }
  }
  void move(std::byte* to, int to_row, const std::byte* from, int from_row, int rows, int dim) const
      requires(Format::span == 1) {
    inner.move(to, to_row, from, from_row, rows, dim);
  }

 private:
  void forward(float* x, int dim) const {
    if constexpr (Keys)
      turn.key(x, dim);
    else
      turn.value(x, dim);
  }
};

template <transform Transform, class Codec>
struct through {
  using role = tersekv::role::codec;
  using key_format = through_format<Transform, typename Codec::key_format, true>;
  using value_format = through_format<Transform, typename Codec::value_format, false>;
  using provides = tersekv::codec_facts<key_format, value_format, Codec::window>;
  static constexpr std::string_view separator = "@";
  static constexpr std::string_view name = detail::joined_name<&Codec::name, &separator, &Transform::name>;
  static constexpr auto structure = detail::structure_of<Codec>();
  static constexpr int window = Codec::window, sinks = Codec::sinks;

  Transform turn;
  Codec codec;

  template <class F>
  void tuning(F&& f) {
    if constexpr (requires { codec.tuning(f); }) codec.tuning(f);
    if constexpr (requires { turn.tuning(f); }) turn.tuning(f);
  }
  key_format for_keys() const { return {turn, codec.for_keys()}; }
  value_format for_values() const { return {turn, codec.for_values()}; }
};

}  // namespace tersekv
