// SPDX-License-Identifier: Apache-2.0
// Queries and weights as small integers, written the way that products of quads read them (simd.hpp).
//
// A row of floats x becomes integers f and one scale, x ~ scale * f, |f| <= largest_factor. Sums of products use the
// rounded numbers throughout, so that what is rounded away meets centred codes only.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include <tersekv/backend/cpu/lane_joins.hpp>
#include <tersekv/codec/layout.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

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

/// What products with a factor of 1 add to a sum of 16 bits: from -largest to largest, or, where codes are not centred,
/// nothing negative.
struct code_range {
  int largest;
  bool centred;
};

/// The `largest` for which x[n], n a multiple of the lanes, rounds to factors whose sums with codes fit: what it was,
/// or more where the numbers are of much the same size. Then the largest factor is small, and the others are not.
template <class P, int Places>
TERSEKV_INLINE float largest_for_sums(float largest, const float* x, int n, code_range codes) {
  if constexpr (requires { P::largest_sum; }) {
    simd::f32 sizes = simd::zero(), numbers = simd::zero();
    for (int c = 0; c < n; c += simd::lanes) {
      const simd::f32 v = simd::load(x + c);
      sizes = simd::add(sizes, simd::magnitude(v));
      numbers = simd::add(numbers, v);
    }
    static_assert(4 * Places <= simd::lanes);
    float size[simd::lanes], number[simd::lanes];
    simd::store(size, sizes);
    simd::store(number, numbers);
    float sum[2][2 * Places] = {};  // each of half of every quad, or of every second quad
    for (int i = 0; i < simd::lanes; ++i) {
      sum[0][i / 2 % (2 * Places)] += size[i];
      sum[1][i / 2 % (2 * Places)] += number[i];
    }
    float worst = 0;  // of codes that are not centred, factors of one sign add up
    for (int i = 0; i < 2 * Places; ++i)
      worst = std::max(worst, codes.centred ? sum[0][i] : 0.5f * (sum[0][i] + std::abs(sum[1][i])));
    const int rounded_up = n / 4 / Places * (codes.centred ? 1 : 2);  // see round_with_sum
    const int most = P::largest_sum / codes.largest - rounded_up - 1;
    return std::max(largest, worst * (static_cast<float>(P::largest_factor) / static_cast<float>(most)));
  }
  return largest;
}

/// Rounds y = x[n] times `inverse`, n a multiple of the lanes, so that their sum stays as it is but for a half: as many
/// as it takes of those that were rounded the farthest the wrong way go the other way.
TERSEKV_INLINE void round_with_sum(const float* x, int n, float inverse, float* to) {
  constexpr int parts = 1 << 13;                   // of a unit, in which distances are compared
  alignas(64) static constexpr auto number = [] {  // of lanes
    std::array<float, simd::lanes> i{};
    for (int l = 0; l < simd::lanes; ++l) i[static_cast<std::size_t>(l)] = static_cast<float>(l);
    return i;
  }();
  simd::f32 sum = simd::zero();
  for (int c = 0; c < n; c += simd::lanes) {
    const simd::f32 y = simd::mul(simd::load(x + c), simd::set(inverse)), whole = simd::round(y);
    simd::store(to + c, whole);
    sum = simd::add(sum, simd::sub(whole, y));
  }
  const float excess = simd::sum(sum), sign = excess < 0 ? -1.0f : 1.0f;
  int times = 0;
  if (std::abs(excess) <= static_cast<float>(n)) times = static_cast<int>(std::abs(excess) + 0.5f);  // or no numbers
  if (times == 0) return;
  alignas(64) float rank[longest_row];  // how far it was rounded the wrong way, times longest_row; plus its index
  for (int c = 0; c < n; c += simd::lanes) {
    const simd::f32 y = simd::mul(simd::load(x + c), simd::set(inverse));
    const simd::f32 far = simd::mul(simd::sub(simd::load(to + c), y), simd::set(sign * parts));
    const simd::f32 index = simd::add(simd::load(number.data()), simd::set(static_cast<float>(c)));
    simd::store(rank + c, simd::fma(simd::round(far), simd::set(longest_row), index));
  }
  for (; times > 0; --times) {
    simd::f32 most = simd::load(rank);
    for (int c = simd::lanes; c < n; c += simd::lanes) most = simd::max(most, simd::load(rank + c));
    const int c = static_cast<int>(simd::largest(most)) % longest_row;
    to[c] -= sign;
    rank[c] -= parts * longest_row;
  }
}

/// Whether four rows of factors at once are cheaper than one by one.
template <class P>
inline constexpr bool writes_four = requires {
  &P::template write_four<int, int>;
};

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
  /// Rows r .. r + 3: number(r, i) times times(r). Lanes that are i modulo 4 of what it returns hold the sum of row
  /// r + i.
  template <class Number, class Times>
  TERSEKV_INLINE typename P::acc write_four(Number&& number, Times&& times, int first, int rows, int r) const {
    return P::write_four(number, times, row(rows, r, first), P::row_bytes(quads));
  }
};
/// Writes R rows of factors, a piece at a time, and adds them up.
template <class P, int R>
class written_rows {
 public:
  /// 32 numbers of every row, as quads from `first` on: number(r, i) times times(r). Begins: they are the first ones.
  template <class Begins, class Number, class Times>
  TERSEKV_INLINE void write(Begins begins, const factor_rows<P>& to, int first, Number&& number, Times&& times) {
    const auto add = [&](int i, typename P::acc added)
                         TERSEKV_INLINED { sum_[i] = begins ? added : P::plus(sum_[i], added); };
    if constexpr (fours) {
      each<R / 4>([&](auto n) TERSEKV_INLINED {
        const auto number_of = [&](int r, int i) TERSEKV_INLINED { return number(4 * n + r, i); };
        const auto times_of = [&](int r) TERSEKV_INLINED { return times(4 * n + r); };
        add(n, to.write_four(number_of, times_of, first, R, 4 * n));
      });
    } else {
      each<R>([&](auto r) TERSEKV_INLINED {
        const simd::f32 by = times(r);
        const auto number_of = [&](int i) TERSEKV_INLINED { return simd::mul(number(r, i), by); };
        add(r, to.write(number_of, first, R, r));
      });
    }
  }
  /// The sums of all rows, as unit U of `to`.
  template <int U, int Units>
  TERSEKV_INLINE void store(lane_joins<sum_of_lanes, Units, R>& to) const {
    if constexpr (fours) {
      each<R / 4>([&](auto i) TERSEKV_INLINED { to.template set<U, i>(P::value(sum_[i])); });
    } else if constexpr (R % 4 == 0 && requires { P::sums_across(sum_); }) {
      each<R / 4>([&](auto i) TERSEKV_INLINED { to.template set<U, i>(P::sums_across(sum_ + 4 * i)); });
    } else {
      simd::f32 lanes[R];
      each<R>([&](auto r) TERSEKV_INLINED { lanes[r] = P::value(sum_[r]); });
      to.template set<U>(lanes);
    }
  }

 private:
  static constexpr bool fours = writes_four<P> && R % 4 == 0;
  typename P::acc sum_[fours ? R / 4 : R];
};
inline constexpr int padded_quads(int depth) { return round_up_to(depth, 32) / 4; }
inline constexpr std::size_t factor_bytes(int quads, int rows) {
  return std::max(simd::narrow::bytes(quads, rows), simd::wide::bytes(quads, rows));
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
