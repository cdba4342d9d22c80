// SPDX-License-Identifier: Apache-2.0
// Products of codes and integers: the inner loop of all packed kernels, for scores (lanes are rows, quads run over
// channels) and for outputs (lanes are channels, quads run over rows) alike. A code is unpacked once for all R rows of
// factors.
#pragma once
#include <algorithm>
#include <type_traits>

#include <tersekv/backend/cpu/factors.hpp>
#include <tersekv/backend/cpu/lines_ahead.hpp>
#include <tersekv/codec/layout.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// The code that counts as zero in products: codes are centred, so that rounded factors err about zero.
template <class Grid>
constexpr int middle() {
  if constexpr (requires { Grid::table; })
    return 128;  // lookup() adds it
  else
    return 1 << (Grid::bits - 1);
}

/// Narrow codes need not be moved to the lowest bits of their bytes: those that stay one place higher count 1 << bits
/// times as much, and have a sum of their own, which is divided once. How many places, and so sums for each of R rows:
/// quad q adds to sum q % places.
template <class Grid, class P, int R>
constexpr int places() {
  if constexpr (requires { P::places(Grid::bits, R); })
    return P::places(Grid::bits, R);
  else
    return 1;
}
/// What codes add to a sum. With two places it is the second: its codes are not centred, and it is divided. The first
/// begins for both, and may wrap around until they are added.
template <class Grid, class P>
constexpr code_range codes_of_sum(bool centred) {
  if constexpr (places<Grid, P, 1>() > 1) return {((1 << Grid::bits) - 1) << Grid::bits, false};
  return centred ? code_range{middle<Grid>(), true} : code_range{2 * middle<Grid>() - 1, false};
}
template <class P, int Places>
struct product_sum {
  typename P::acc of[Places];
  TERSEKV_INLINE typename P::acc whole() const { return P::whole(of[0], of[1]); }
  TERSEKV_INLINE typename P::acc whole_positive() const { return P::whole_positive(of[0], of[1]); }
};
template <class P>
struct product_sum<P, 1> {
  typename P::acc of[1];
  TERSEKV_INLINE const typename P::acc& whole() const { return of[0]; }
  TERSEKV_INLINE const typename P::acc& whole_positive() const { return of[0]; }
};

/// What a unit of codes becomes when it is read: a vector, or, where P has them, fields that are read one by one.
template <int Bits, class P, int Places>
struct unit_word {
  using type = simd::raw;
};
template <int Bits, class P, int Places>
requires requires { typename P::template fields<Bits, Places>; }
struct unit_word<Bits, P, Places> {
  using type = typename P::template fields<Bits, Places>;
};

/// Codes of one step: as many quads as the narrowest plane packs into a word.
template <class Grid, class P = simd::wide, int Places = 1>
struct quad_codes {
  using block = quad_block<Grid::bits>;
  static constexpr int quads = 8 / block::narrowest();
  static constexpr int units = quads * Grid::bits / 8;
  using word = typename unit_word<Grid::bits, P, Places>::type;
  using words = word[units];

  /// Those of the `step`-th step behind quad q. `at`: the first of the vector's lanes in the first unit of the block.
  /// ask(units of a plane in a step, number of the unit in the step, address).
  template <class Step, class Ask>
  static TERSEKV_INLINE void load(words& u, const std::byte* at, std::size_t depth, std::size_t q, Step step,
                                  Ask&& ask) {
    load_planes<0, 0>(u, at, depth, q, step, ask);
  }
  template <int K>
  static TERSEKV_INLINE simd::raw code(const words& u) {
    const simd::raw code = taken_out<K>(u);
    if constexpr (requires { Grid::table; })
      return simd::lookup(code, Grid::table.data());
    else
      return code;
  }

 private:
  static constexpr bool reads_fields = !std::is_same_v<word, simd::raw>;
  static_assert(Places == 1 || reads_fields);
  static_assert(!reads_fields || units == 1);
  static TERSEKV_INLINE word read(const std::byte* p) {
    if constexpr (reads_fields)
      return word(p);
    else
      return simd::load_raw(p);
  }
  template <int K>
  static TERSEKV_INLINE simd::raw taken_out(const words& u) {
    if constexpr (reads_fields)
      return u[0].template field<K>();
    else
      return collect<K, 0, 0>(u);
  }
  template <int Low, int Unit, class Step, class Ask>
  static TERSEKV_INLINE void load_planes(words& u, const std::byte* at, std::size_t depth, std::size_t q, Step step,
                                         Ask& ask) {
    constexpr int w = block::width(Low), n = quads * w / 8;
    const std::size_t before = block::plane(Low, static_cast<int>(depth)) / line_bytes + q * w / 8;
    const std::byte* from = at + before * line_bytes;
    each<n>([&](auto i) TERSEKV_INLINED {
      constexpr int unit = Step::value * n + i;
      u[Unit + i] = read(from + unit * line_bytes);
      ask(std::integral_constant<int, n>{}, std::integral_constant<int, unit>{}, from + unit * line_bytes);
    });
    if constexpr (Low + w < Grid::bits) load_planes<Low + w, Unit + n>(u, at, depth, q, step, ask);
  }
  template <int K, int Low, int Unit>
  static TERSEKV_INLINE simd::raw collect(const words& u) {
    constexpr int w = block::width(Low);
    const simd::raw part = simd::field<w, K % (8 / w)>(u[Unit + K * w / 8]);
    if constexpr (Low + w < Grid::bits)
      return simd::join<w>(part, collect<K, Low + w, Unit + quads * w / 8>(u));
    else
      return part;
  }
};

/// Where L vectors of lanes begin, in the first unit of a block and of those that follow.
template <class Ahead>
struct lane_vectors {
  const std::byte* first;
  std::size_t block;  // bytes from one block to the next
  Ahead ahead;        // what will be read later
  template <class Index>
  TERSEKV_INLINE const std::byte* at(Index l) const {
    constexpr int n = block_lanes / simd::lanes;  // vectors of a block
    return first + l / n * block + l % n * (4 * simd::lanes);
  }
};

/// The same address. What is read there is read again each time: g++ would load all factors ahead of a loop over lanes,
/// find too few registers, and copy them.
template <class T>
TERSEKV_INLINE const T* fresh(const T* p) {
#if defined(__GNUC__) && !defined(__clang__)
  __asm__ volatile("" : "+r"(p));
#endif
  return p;
}

/// f(l, r) for all lane vectors and rows.
template <int L, int R, class F>
TERSEKV_INLINE void each_sum(F&& f) {
  each<L>([&](auto l) TERSEKV_INLINED { each<R>([&](auto r) TERSEKV_INLINED { f(l, r); }); });
}

/// What sums of products go on from: themselves, nothing, or the words of every row.
struct from_sums {
  template <class P, class Factor>
  static TERSEKV_INLINE void add(typename P::acc& a, simd::raw codes, const Factor& x, int) {
    a = P::dot(a, codes, x);
  }
};
struct from_nothing {
  TERSEKV_INLINE from_nothing after(int) const { return {}; }
  template <class P, class Factor>
  static TERSEKV_INLINE void add(typename P::acc& a, simd::raw codes, const Factor& x, int) {
    a = P::product(codes, x);
  }
};
struct from_words {
  const simd::begin_words* at;  // [rows]
  TERSEKV_INLINE from_words after(int words) const { return {at + words}; }
  template <class P, class Factor>
  TERSEKV_INLINE void add(typename P::acc& a, simd::raw codes, const Factor& x, int r) const {
    a = P::begin(at[r], codes, x);
  }
};
/// What the first products of a place are added to, and the others. Words are added to the first sum.
template <bool First, int Place, class From>
TERSEKV_INLINE auto start_of(const From& from) {
  if constexpr (!First)
    return from_sums{};
  else if constexpr (Place > 0 && std::is_same_v<From, from_words>)
    return from_nothing{};
  else
    return from;
}

/// a[l][r] += codes of `Quads` quads from quad q on, of lane vector l, times the factors of row r.
template <class Grid, class P, int Quads, class From, class Ahead, int R, int L, int Places>
TERSEKV_INLINE void add_quads(product_sum<P, Places> (&a)[L][R], const From& from, const lane_vectors<Ahead>& lanes,
                              std::size_t depth, std::size_t q, const std::byte* factors, int row) {
  using codes = quad_codes<Grid, P, Places>;
  constexpr int steps = Quads / codes::quads;
  each<steps>([&](auto step) TERSEKV_INLINED {
    typename codes::words u[L];
    each<L>([&](auto l) TERSEKV_INLINED {
      const auto ask = [&](auto units, auto unit, const std::byte* line)
                           TERSEKV_INLINED { lanes.ahead.template ask<L, steps * units>(l, unit, line); };
      codes::load(u[l], lanes.at(l), depth, q, step, ask);
    });
    each<codes::quads>([&](auto k) TERSEKV_INLINED {
      simd::raw c[L];
      each<L>([&](auto l) TERSEKV_INLINED { c[l] = codes::template code<k>(u[l]); });
      each<R>([&](auto r) TERSEKV_INLINED {
        const auto x = P::load(factors + (step * codes::quads + k) * P::quad_bytes(R) + r * row, row);
        each<L>([&](auto l) TERSEKV_INLINED {
          constexpr int place = k % Places;
          start_of<step == 0 && k == place, place>(from).template add<P>(a[l][r].of[place], c[l], x, r);
        });
      });
    });
  });
}

/// a[l][r] += codes of quads [first, first + count) of lane vector l times the factors f of row r, `row` bytes apart.
/// Count > 0: a count that is known, and small enough to be written out.
template <class Grid, class P, int Count, class From, class Ahead, int R, int L, int Places>
TERSEKV_INLINE void add_products(product_sum<P, Places> (&a)[L][R], const From& from, const lane_vectors<Ahead>& lanes,
                                 std::size_t depth, std::size_t first, std::size_t count, const std::byte* f, int row) {
  constexpr std::size_t least = quad_codes<Grid>::quads, many = std::max<std::size_t>(simd::written_out / 2, least);
  if constexpr (Count > 0 && Count <= simd::written_out) {
    add_quads<Grid, P, Count>(a, from, lanes, depth, first, f, row);
  } else {
    if constexpr (!std::is_same_v<From, from_sums>)
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
        each<Places>([&](auto place) TERSEKV_INLINED { a[l][r].of[place] = P::none(); });
        if constexpr (std::is_same_v<From, from_words>) a[l][r].of[0] = P::start(from.at[r]);
      });
    const std::size_t last = first + count;
    std::size_t q = first;
    for (; q + many <= last; q += many, f += many * P::quad_bytes(R))
      add_quads<Grid, P, static_cast<int>(many)>(a, from_sums{}, lanes, depth, q, f, row);
    if constexpr (least < many)
      for (; q < last; q += least, f += least * P::quad_bytes(R))
        add_quads<Grid, P, static_cast<int>(least)>(a, from_sums{}, lanes, depth, q, f, row);
  }
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
