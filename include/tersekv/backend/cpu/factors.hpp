// SPDX-License-Identifier: Apache-2.0
// Queries and weights as small integers, written the way that products of quads read them (simd.hpp).
//
// A row of floats x becomes integers f and one scale, x ~ scale * f, |f| <= largest_factor. Sums of products use the
// rounded numbers throughout, so that what is rounded away meets centred codes only.
#pragma once
#include <algorithm>
#include <cstddef>

#include <tersekv/backend/cpu/simd.hpp>
#include <tersekv/codec/layout.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

inline constexpr int most_rows = 8;    // query rows of one pass over codes
inline constexpr int piece_rows = 32;  // packed rows that are looked at together
inline constexpr int tile_pieces = 4;  // pieces of one step of the running softmax
inline constexpr int soft_rows = piece_rows * tile_pieces;

inline constexpr int longest_row = 1024;  // of a head

/// The scale with which numbers up to `largest` become factors, and what numbers are multiplied with. Numbers that are
/// smaller than any that matters count as zero: their reciprocals would overflow.
template <class P>
struct rounding {
  static constexpr float smallest = 1e-33f, part = 1.0f / static_cast<float>(P::largest_factor);
  float scale, inverse;
  explicit TERSEKV_INLINE rounding(float largest)
      : scale((largest > smallest ? largest : smallest) * part), inverse(1.0f / scale) {}
  /// The scales of some numbers at once.
  template <class V>
  static TERSEKV_INLINE typename V::f32 scales(typename V::f32 largest) {
    return V::mul(V::max(largest, V::set(smallest)), V::set(part));
  }
};

/// The `largest` for which x[n], n a multiple of the lanes, rounds to factors whose sums with codes of at most `code`
/// fit: what it was, or more where the numbers are of much the same size. Then the largest factor is small, and the
/// others are not.
template <class P, int Places>
TERSEKV_INLINE float largest_for_sums(float largest, const float* x, int n, int code) {
  if constexpr (requires { P::largest_sum; }) {
    simd::f32 sizes = simd::zero();
    for (int c = 0; c < n; c += simd::lanes) sizes = simd::add(sizes, simd::magnitude(simd::load(x + c)));
    float size[simd::lanes], sum[2 * Places] = {};  // each of half of every quad, or of every second quad
    static_assert(4 * Places <= simd::lanes);
    simd::store(size, sizes);
    for (int i = 0; i < simd::lanes; ++i) sum[i / 2 % (2 * Places)] += size[i];
    const int rounded_up = n / 4 / Places;
    const int most = P::largest_sum / code - rounded_up - 1;
    return std::max(largest, *std::max_element(sum, sum + 2 * Places) *
                                 (static_cast<float>(P::largest_factor) / static_cast<float>(most)));
  }
  return largest;
}

/// Factors of `rows` query rows and up to `quads` quads, a multiple of 8.
template <class P>
struct factor_rows {
  std::byte* at;
  int quads;
  /// Row r, from quad `first` on.
  TERSEKV_INLINE std::byte* row(int rows, int r, int first) const {
    return at + static_cast<std::ptrdiff_t>(first) * P::quad_bytes(rows) +
           static_cast<std::ptrdiff_t>(r) * P::row_bytes(quads);
  }
  /// Quads [first, first + count) of row r: x[c] * by(c), rounded, c < 4 * count; returns their sum. x holds zeros
  /// behind them up to a multiple of 32, which are written too.
  template <class By>
  TERSEKV_INLINE start_words round(const float* x, int first, int count, By&& by, int rows, int r) const {
    typename P::acc sum = P::none();
    for (int q = 0; q < count; q += 8) {
      const auto number = [&](auto i) TERSEKV_INLINED {
        const int c = 4 * q + i * simd::lanes;
        return simd::mul(simd::load(x + c), by(c));
      };
      sum = P::plus(sum, write(number, first + q, rows, r));
    }
    return P::added(sum);
  }
  /// 32 numbers, given as vectors number(0), number(1), ..., as quads from `first` on. The lanes of what it returns
  /// hold their sum.
  template <class Number>
  TERSEKV_INLINE typename P::acc write(Number&& number, int first, int rows, int r) const {
    return P::write(number, row(rows, r, first), P::row_bytes(quads), rows);
  }
};
/// to[r] = what write() returned for row r, added up.
template <class P, class Sum, int R>
TERSEKV_INLINE void sums_of_factors(const Sum (&sum)[R], float* to) {
  if constexpr (requires { P::sums(sum, to); }) {
    P::sums(sum, to);
  } else {
    simd::f32 lanes[R];
    each<R>([&](auto r) TERSEKV_INLINED { lanes[r] = P::value(sum[r]); });
    simd::sums(lanes, to);
  }
}
inline constexpr int padded_quads(int depth) { return round_up_to(depth, 32) / 4; }
inline constexpr std::size_t factor_bytes(int quads, int rows) {
  return std::max(simd::narrow::bytes(quads, rows), simd::wide::bytes(quads, rows));
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
