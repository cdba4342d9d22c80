// SPDX-License-Identifier: Apache-2.0
// A query as integers, and how many bits they need: docs/kernels.md.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include <tersekv/backend/cpu/product.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// Largest magnitude and length of x[n], n a multiple of the lanes.
struct extent {
  float largest, length;
};
TERSEKV_INLINE extent extent_of(const float* x, int n) {
  simd::f32 most = simd::zero(), squares = simd::zero();
  for (int c = 0; c < n; c += simd::lanes) {
    const simd::f32 v = simd::load(x + c);
    most = simd::max(most, simd::magnitude(v));
    squares = simd::fma(v, v, squares);
  }
  return {simd::largest(most), std::sqrt(simd::sum(squares))};
}

/// As largest_for_sums of factors.hpp, for sums of `Quads` quads of numbers of which only the extent is known: n of
/// them add up to at most sqrt(n) times their length.
template <class P, int Places, int Quads>
TERSEKV_INLINE float largest_for_sums(const extent& e, int code) {
  constexpr int n = 2 * Quads / Places, rounded_up = n / 2;
  const auto most = static_cast<float>(P::largest_sum / code - rounded_up - 1);
  return std::max(e.largest,
                  e.length * (std::sqrt(static_cast<float>(n)) * (static_cast<float>(P::largest_factor) / most)));
}

template <class Grid>
inline constexpr bool may_be_narrow = simd::rounds_narrow&& Grid::bits <= 4 &&
                                      (!requires { Grid::table; } || simd::narrow::full_range);

/// Whether 7 bits are enough for a query of `dim` numbers. The error of rounding goes with largest / 127 and the size
/// of the centred codes, that of the codec with length / sqrt(dim): docs/kernels.md.
template <class Grid>
TERSEKV_INLINE bool fits_narrow(const extent& e, int dim) {
  if constexpr (!may_be_narrow<Grid>) return false;
  constexpr float limit = 4.5f;
  return e.largest * std::sqrt(static_cast<float>(dim)) <= limit * e.length;
}

/// A query as integers: per row of the pass one scale, per group the sum of its numbers, per chunk of quads what sums
/// begin with. A chunk is what one sum of products may hold.
///
/// Where there are minima, what is rounded away adds up to no more than half a step of a group's factors, and that is
/// what the mean code meets; so codes are not centred, and sums begin with nothing, unless they begin with something
/// anyway.
template <class Grid>
struct integer_query {
  static constexpr bool keeps_sums = Grid::numbers > 1;
  static constexpr bool centred = !keeps_sums || simd::origin != 0;
  bool narrow;
  float* scale;              // [R] each as a vector: an operand in memory
  float* total;              // [groups, R] likewise: sum of the group's numbers / scale; unused without minima
  simd::begin_words* start;  // [chunks, R]; unused where codes are not centred
  std::byte* factors;

  /// As long as factors of a typical size allow: largest_for_sums() sees to it that they are no larger.
  template <class P>
  static constexpr int chunk() {
    constexpr code_range codes = codes_of_sum<Grid, P>(centred);
    if constexpr (requires { P::largest_sum; })  // of factors whose codes are not centred, half add up
      return whole_steps(P::largest_sum / (typical_factor * codes.largest * (codes.centred ? 2 : 1)) *
                         places<Grid, P, 1>());
    else
      return any_chunk<P>();
  }
  /// As long as any factors allow.
  template <class P>
  static constexpr int any_chunk() {
    return whole_steps(P::quads(codes_of_sum<Grid, P>(true).largest) * places<Grid, P, 1>());
  }
  static std::size_t bytes(int depth, int groups, int rows) {
    const auto n = static_cast<std::size_t>(rows), g = static_cast<std::size_t>(groups);
    return 64 + vector * n + vector * n * g + aligned(sizeof(simd::begin_words) * n * chunks(depth, groups)) +
           factor_bytes(padded_quads(depth), rows);
  }
  integer_query(std::byte* at, int depth, int groups, int rows) : flag_(at) {
    const auto n = static_cast<std::size_t>(rows), g = static_cast<std::size_t>(groups);
    std::memcpy(&narrow, at, sizeof(bool));
    scale = reinterpret_cast<float*>(at += 64);
    total = reinterpret_cast<float*>(at += vector * n);
    start = reinterpret_cast<simd::begin_words*>(at += vector * n * g);
    factors = at + aligned(sizeof(simd::begin_words) * n * chunks(depth, groups));
  }
  void set_narrow(bool on) {
    narrow = on;
    std::memcpy(flag_, &on, sizeof(bool));
  }

  /// Writes row r from q, in groups of `group` channels (the last padded to depth).
  template <class P>
  TERSEKV_INLINE void write(const float* q, float largest, int depth, int group, int groups, int rows, int r) {
    each_chunk<P>(depth, group, groups, [&](int, int first, int count) TERSEKV_INLINED {
      largest =
          largest_for_sums<P, places<Grid, P, 1>()>(largest, q + 4 * first, 4 * count, codes_of_sum<Grid, P>(centred));
    });
    const rounding<P> by(largest);
    simd::store(scale + r * simd::lanes, simd::set(by.scale));
    float times = by.inverse;
    alignas(64) float whole[longest_row];
    if constexpr (keeps_sums) {
      for (int g = 0, first = 0; g < groups; ++g, first += group)
        round_with_sum(q + first, round_up_to(g + 1 == groups ? depth - first : group, 32), times, whole + first);
      q = whole, times = 1;
    }
    each_chunk<P>(depth, group, groups, [&](int n, int first, int count) TERSEKV_INLINED {
      const start_words sum = factor_rows<P>{factors, padded_quads(depth)}.round(
          q + 4 * first, first, count, [&](int) TERSEKV_INLINED { return simd::set(times); }, rows, r);
      if constexpr (centred) start[n * rows + r] = P::centred(sum, middle<Grid>());
    });
  }

 private:
  /// Gaussian queries of 128 channels have 30 to 38 on average. Factors that are all of this size are precise enough.
  static constexpr int typical_factor = 31;
  static constexpr int whole_steps(int quads) {
    constexpr int step = std::max(8, quad_codes<Grid>::quads);
    return quads / step * step;
  }
  /// f(number, first quad, quads) for all chunks.
  template <class P, class F>
  static TERSEKV_INLINE void each_chunk(int depth, int group, int groups, F&& f) {
    static_assert(chunk<P>() > 0 && any_chunk<P>() > 0);
    int n = 0;
    for (int g = 0; g < groups; ++g) {
      const int last = g + 1 == groups ? depth / 4 : (g + 1) * group / 4;
      for (int first = g * group / 4; first < last; first += chunk<P>())
        f(n++, first, std::min(chunk<P>(), last - first));
    }
  }
  static constexpr std::size_t vector = 4 * simd::lanes;
  static constexpr std::size_t aligned(std::size_t n) { return (n + 63) / 64 * 64; }
  static constexpr std::size_t chunks(int depth, int groups) {
    return static_cast<std::size_t>(depth / 32 + groups + 1);
  }
  std::byte* flag_;
};

/// Runs f(narrow or wide).
template <class Grid, class F>
TERSEKV_INLINE void with_width(bool narrow, F&& f) {
  if constexpr (may_be_narrow<Grid>)
    if (narrow) return f(simd::narrow{});
  f(simd::wide{});
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
