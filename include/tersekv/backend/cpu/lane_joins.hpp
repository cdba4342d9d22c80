// SPDX-License-Identifier: Apache-2.0
// Sums and maxima of the lanes of many vectors at once, in registers: what is stored by quarters cannot be forwarded to
// a load of the whole, which then waits until everything before it is done.
#pragma once
#include <algorithm>
#include <type_traits>

#include <tersekv/backend/cpu/simd.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

struct sum_of_lanes {
  template <class T>
  TERSEKV_INLINE T operator()(T x, T y) const {
    if constexpr (std::is_same_v<T, float>)
      return x + y;
    else
      return simd::add(x, y);
  }
  static TERSEKV_INLINE simd::f32 across(const simd::f32* x) { return simd::sums_across(x); }
  template <int R>
  static TERSEKV_INLINE void store(const simd::f32 (&x)[R], float* to) {
    simd::sums(x, to);
  }
};
struct largest_of_lanes {
  template <class T>
  TERSEKV_INLINE T operator()(T x, T y) const {
    if constexpr (std::is_same_v<T, float>)
      return std::max(x, y);
    else
      return simd::max(x, y);
  }
  static TERSEKV_INLINE simd::f32 across(const simd::f32* x) { return simd::largests_across(x); }
  template <int R>
  static TERSEKV_INLINE void store(const simd::f32 (&x)[R], float* to) {
    simd::largests(x, to);
  }
};

/// One number for every row of the query and unit: [units, R]. Rows of a unit are set at once, then all is finished.
template <class Join, int Units, int R>
class lane_joins {
 public:
  /// Whether numbers fill vectors.
  static constexpr bool whole = Units > 1 && R % 4 == 0 && Units* R % simd::lanes == 0;

  explicit TERSEKV_INLINE lane_joins(float* to) : to_(to) {}

  /// Row r of unit U: of all lanes of x[r].
  template <int U>
  TERSEKV_INLINE void set(const simd::f32 (&x)[R]) {
    if constexpr (whole)
      each<R / 4>([&](auto i) TERSEKV_INLINED { part_[U * R / 4 + i] = Join::across(x + 4 * i); });
    else
      Join::store(x, to_ + U * R);
  }
  /// Four rows from number 4 * I on: of every fourth lane of x.
  template <int U, int I>
  TERSEKV_INLINE void set(simd::f32 x) {
    if constexpr (whole)
      part_[U * R / 4 + I] = x;
    else
      simd::store_quad(to_ + U * R + 4 * I, simd::repeat<4>(x, Join{}));
  }
  TERSEKV_INLINE void finish() const {
    constexpr int W = simd::lanes;
    if constexpr (whole)
      each<Units * R / W>([&](auto i)
                              TERSEKV_INLINED { simd::store(to_ + i * W, simd::quads(part_ + i * W / 4, Join{})); });
  }

 private:
  float* to_;
  simd::f32 part_[whole ? Units * R / 4 : 1];  // every quad of lanes: of rows r .. r + 3, from some of their lanes
};

/// Every unit of x[units, R] becomes what all of them join to.
template <class Join, int Units, int R>
TERSEKV_INLINE void join_rows(float* x) {
  constexpr int W = simd::lanes;
  if constexpr (lane_joins<Join, Units, R>::whole && W % R == 0) {
    simd::f32 all = simd::load(x);
    each<Units * R / W - 1>([&](auto i) TERSEKV_INLINED { all = Join{}(all, simd::load(x + (i + 1) * W)); });
    all = simd::repeat<R>(all, Join{});
    each<Units * R / W>([&](auto i) TERSEKV_INLINED { simd::store(x + i * W, all); });
  } else if constexpr (Units > 1) {
    for (int i = R; i < Units * R; ++i) x[i % R] = Join{}(x[i % R], x[i]);
    for (int i = R; i < Units * R; ++i) x[i] = x[i % R];
  }
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
