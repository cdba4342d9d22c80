// SPDX-License-Identifier: Apache-2.0
// Products of codes and integers: the inner loop of all packed kernels, for scores (lanes are rows, quads run over
// channels) and for outputs (lanes are channels, quads run over rows) alike. A code is unpacked once for all R rows of
// factors.
#pragma once
#include <type_traits>
#include <utility>

#include <tersekv/backend/cpu/factors.hpp>
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

/// Codes of one step: as many quads as the narrowest plane packs into a word.
template <class Grid>
struct quad_codes {
  using block = quad_block<Grid::bits>;
  static constexpr int quads = 8 / block::narrowest();
  static constexpr int units = quads * Grid::bits / 8;
  using words = simd::raw[units];

  /// Those of the `step`-th step behind quad q. `at`: the first of the vector's lanes in the first unit of the block.
  template <class Step>
  static TERSEKV_INLINE void load(words& u, const std::byte* at, std::ptrdiff_t ahead, std::size_t depth, std::size_t q,
                                  Step step) {
    load_planes<0, 0>(u, at, ahead, depth, q, step);
  }
  template <int K>
  static TERSEKV_INLINE simd::raw code(const words& u) {
    const simd::raw x = collect<K, 0, 0>(u);
    if constexpr (requires { Grid::table; })
      return simd::lookup(x, Grid::table.data());
    else
      return x;
  }

 private:
  template <int Low, int Unit, class Step>
  static TERSEKV_INLINE void load_planes(words& u, const std::byte* at, std::ptrdiff_t ahead, std::size_t depth,
                                         std::size_t q, Step step) {
    constexpr int w = block::width(Low), n = quads * w / 8;
    constexpr std::size_t line = 4 * block_lanes;
    const std::byte* from = at + block::plane(Low, static_cast<int>(depth)) + q * w / 8 * line;
    each<n>([&](auto i) TERSEKV_INLINED {
      constexpr int unit = Step::value * n + i;
      u[Unit + i] = simd::load_raw(from + unit * line);
      // Two vectors of 8 lanes share a line: of two lines the first vector asks for the first, the second for the
      // other.
      if constexpr (simd::lanes == block_lanes)
        simd::prefetch(from + unit * line + ahead);
      else if constexpr (simd::lanes == 8 && unit % 2 == 0)
        simd::prefetch(from + unit * line + line / 2 + ahead);
    });
    if constexpr (Low + w < Grid::bits) load_planes<Low + w, Unit + n>(u, at, ahead, depth, q, step);
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

/// 32 rows of a tile of keys or values, and of all tiles of a kind: rows that a tile holds, numbers of a row.
struct packed_piece {
  const std::byte* tile;
  int first;             // row of the tile
  std::ptrdiff_t ahead;  // bytes to the tile that is read one step of the softmax later
};
struct packed_pieces {
  const packed_piece* piece;
  int count, rows, dim;
};

/// Where L vectors of lanes begin, in the first unit of a block and of those that follow.
struct lane_vectors {
  const std::byte* first;
  std::size_t block;     // bytes from one block to the next
  std::ptrdiff_t ahead;  // bytes to what will be read later, which is asked for meanwhile
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
  template <class P, class Factor>
  static TERSEKV_INLINE void add(typename P::acc& a, simd::raw codes, const Factor& x, int) {
    a = P::product(codes, x);
  }
};
struct from_words {
  const simd::begin_words* at;  // [rows]
  template <class P, class Factor>
  TERSEKV_INLINE void add(typename P::acc& a, simd::raw codes, const Factor& x, int r) const {
    a = P::begin(at[r], codes, x);
  }
};
/// What the first products are added to, and the others.
template <bool First, class From>
TERSEKV_INLINE std::conditional_t<First, From, from_sums> start_of(const From& from) {
  if constexpr (First)
    return from;
  else
    return {};
}

/// a[l][r] += codes of `Quads` quads from quad q on, of lane vector l, times the factors of row r.
template <class Grid, class P, int Quads, class From, int R, int L>
TERSEKV_INLINE void add_quads(typename P::acc (&a)[L][R], const From& from, const lane_vectors& lanes,
                              std::size_t depth, std::size_t q, const std::byte* factors, int row) {
  using codes = quad_codes<Grid>;
  each<Quads / codes::quads>([&](auto step) TERSEKV_INLINED {
    typename codes::words u[L];
    each<L>([&](auto l) TERSEKV_INLINED { codes::load(u[l], lanes.at(l), lanes.ahead, depth, q, step); });
    each<codes::quads>([&](auto k) TERSEKV_INLINED {
      simd::raw c[L];
      each<L>([&](auto l) TERSEKV_INLINED { c[l] = codes::template code<k>(u[l]); });
      each<R>([&](auto r) TERSEKV_INLINED {
        const auto x = P::load(factors + (step * codes::quads + k) * P::quad_bytes(R) + r * row, row);
        each<L>([&](auto l)
                    TERSEKV_INLINED { start_of<step == 0 && k == 0>(from).template add<P>(a[l][r], c[l], x, r); });
      });
    });
  });
}

/// a[l][r] += codes of quads [first, first + count) of lane vector l times the factors f of row r, `row` bytes apart.
/// Count > 0: a count that is known, and small enough to be written out.
template <class Grid, class P, int Count, class From, int R, int L>
TERSEKV_INLINE void add_products(typename P::acc (&a)[L][R], const From& from, const lane_vectors& lanes,
                                 std::size_t depth, std::size_t first, std::size_t count, const std::byte* f, int row) {
  constexpr std::size_t least = quad_codes<Grid>::quads, many = std::max<std::size_t>(simd::written_out / 2, least);
  if constexpr (Count > 0 && Count <= simd::written_out) {
    add_quads<Grid, P, Count>(a, from, lanes, depth, first, f, row);
  } else {
    if constexpr (std::is_same_v<From, from_nothing>)
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED { a[l][r] = P::none(); });
    if constexpr (std::is_same_v<From, from_words>)
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED { a[l][r] = P::start(from.at[r]); });
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
