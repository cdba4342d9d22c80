// SPDX-License-Identifier: Apache-2.0
// The weights of rows for value_kernel: probability times step as integers, one scale per unit of rows and row of the
// query, as precise as the codes are. docs/kernels.md
//
//   value_weights<Format>            what a unit of rows is, for codes of this format
//     group_rows<Pieces>             one group of channels of some pieces: where their codes, steps and minima lie
//     row_weights<R, Pieces>         weights of the query's rows, and how much of all so far a unit is
//     weights<P, R, Pieces>          the same times steps of a group, as integers for products P
#pragma once
#include <tersekv/backend/cpu/key_kernel.hpp>
#include <tersekv/backend/cpu/lane_joins.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// Grids of ggml write the sign of the largest number into the step.
template <class Grid>
inline constexpr bool signed_steps = Grid::numbers == 1 && !requires {
  Grid::sign;
};

/// How a sum of several units weighs them: [units, R].
template <class P, int Units, int R>
struct unit_parts {
  using type = typename P::part[Units][R];
};
template <class P, int R>
struct unit_parts<P, 1, R> {
  using type = char;
};
template <class P, int Units, int R>
using parts_of = typename unit_parts<P, Units, R>::type;

template <class Format>
struct value_weights;

template <class Grid, int Group, class Reopen>
struct value_weights<grouped_format<Grid, Group, Reopen, layout::channel_quads>> {
  using format = grouped_format<Grid, Group, Reopen, layout::channel_quads>;
  using plane = code_plane<layout::channel_quads, Grid::bits>;
  static constexpr int W = simd::lanes;
  static constexpr int vectors = piece_rows / W;  // of a piece
  static constexpr int piece_quads = piece_rows / 4;
  static constexpr int highest_code = middle<Grid>() * 2 - 1;
  /// Pieces whose weights share a scale and a sum of products: a unit. Fewer bits lose more to the codec, and need
  /// less.
  static constexpr int weight_pieces =
      std::min({Grid::bits == 4 ? 1 : tile_pieces, simd::wide::quads(highest_code) * 4 / piece_rows,
                may_be_narrow<Grid> ? simd::narrow::quads(highest_code) * 4 / piece_rows : tile_pieces});
  static constexpr int weight_rows = weight_pieces * piece_rows;
  static_assert(weight_pieces >= 1 && tile_pieces % weight_pieces == 0);
  /// Whether all units of a tile are added up before outputs are read and written.
  static constexpr bool adds_tiles = may_be_narrow<Grid> && simd::weighs_sums;
  /// The mean code: of a grid between minimum and maximum half a code below the middle one.
  static constexpr float mean_code = static_cast<float>(middle<Grid>()) - (Grid::numbers > 1 ? 0.5f : 0.0f);
  /// What rounding may change of all that was added up, in parts of it, and how much noise it makes, in its steps.
  static constexpr float noise = 2;
  static constexpr float precise = 0.005f * static_cast<float>(1 << (8 - 2 * std::min(4, Grid::bits)));
  static constexpr std::size_t block_bytes = plane::block::bytes(value_rows);

  /// Of sums of products. Positive ones use all 16 bits.
  template <class P, int R>
  static constexpr int places() {
    constexpr int n = signed_steps<Grid> ? 1 : detail::places<Grid, P, R>();
    static_assert(n == 1 ||
                  codes_of_sum<Grid, P>(true).largest * P::largest_factor * (2 * weight_rows / 4 / n) <= 65535);
    return n;
  }

  static TERSEKV_INLINE simd::f32 size(simd::f32 x) { return signed_steps<Grid> ? simd::magnitude(x) : x; }

  /// One group of some pieces: of a whole tile (Pieces > 0), or of a unit.
  template <int Pieces>
  struct group_rows {
    static constexpr int most = Pieces > 0 ? Pieces : weight_pieces, units = most / weight_pieces;
    const half* step[most];
    const half* low[most];
    const std::byte* code[most];
    code_lines ahead[most];
    float* out;
    int held;  // pieces

    group_rows() = default;
    TERSEKV_INLINE group_rows(const packed_pieces& v, int first, float* out)
        : out(out), held(std::min(most, v.count - first)) {
      for (int i = 0; i < pieces(); ++i) {
        const packed_piece& piece = v.piece[first + i];
        step[i] = reinterpret_cast<const half*>(piece.tile + format::steps_at(v.rows, v.dim)) + piece.first;
        if constexpr (Grid::numbers > 1)
          low[i] = reinterpret_cast<const half*>(piece.tile + format::lows_at(v.rows, v.dim)) + piece.first;
        code[i] = piece.tile + static_cast<std::size_t>(piece.first / value_rows * plane::blocks(v.dim)) * block_bytes;
        ahead[i] = code_lines::of(v, first + i);
      }
    }
    TERSEKV_INLINE int pieces() const { return Pieces > 0 || most == 1 ? most : held; }
    TERSEKV_INLINE void next(int group, int rows) {
      for (int i = 0; i < pieces(); ++i) {
        step[i] += rows;
        if constexpr (Grid::numbers > 1) low[i] += rows;
        code[i] += static_cast<std::size_t>(group / block_lanes) * block_bytes;
      }
      out += group;
    }
    /// Unit u of a tile.
    group_rows<0> unit(int u) const {
      group_rows<0> some;
      std::copy_n(step + u * weight_pieces, weight_pieces, some.step);
      if constexpr (Grid::numbers > 1) std::copy_n(low + u * weight_pieces, weight_pieces, some.low);
      std::copy_n(code + u * weight_pieces, weight_pieces, some.code);
      std::copy_n(ahead + u * weight_pieces, weight_pieces, some.ahead);
      some.out = out;
      some.held = weight_pieces;
      return some;
    }
    /// f(first, piece) for all pieces of unit U, whether it is the first.
    template <int U, class F>
    TERSEKV_INLINE void each_piece(F&& f) const {
      if constexpr (Pieces > 0 || most == 1) {
        each<weight_pieces>([&](auto i) TERSEKV_INLINED {
          f(std::bool_constant<i == 0>{}, std::integral_constant<int, U * weight_pieces + i>{});
        });
      } else {
        f(std::true_type{}, 0);
        for (int i = 1; i < held; ++i) f(std::false_type{}, i);
      }
    }
  };

  /// Numbers of some units and the query's rows: [units, R].
  template <int R, int Pieces>
  static constexpr int values = group_rows<Pieces>::units* R;
  /// Their operations.
  template <int Values>
  using value_ops = std::conditional_t<Values % W == 0, simd, std::conditional_t<Values % 4 == 0, simd::quad, single>>;
  /// to = f(index of the first) for all vectors of values.
  template <int Values, class F>
  static TERSEKV_INLINE void set_values(float (&to)[Values], F&& f) {
    using V = value_ops<Values>;
    each<Values / V::lanes>([&](auto i) TERSEKV_INLINED { V::store(to + i * V::lanes, f(i * V::lanes)); });
  }
  /// Weights of some pieces.
  template <int R, int Pieces>
  struct row_weights {
    static constexpr int units = group_rows<Pieces>::units;
    const float* p;                              // [R, soft_rows]
    const float* sum;                            // [R] of all weights so far
    alignas(64) float share[values<R, Pieces>];  // of all weights so far that a unit is

    TERSEKV_INLINE row_weights(const group_rows<Pieces>& v, const float* p, const float* sum) : p(p), sum(sum) {
      alignas(64) float all[values<R, Pieces>];
      lane_joins<sum_of_lanes, units, R> shares(share);
      each<units>([&](auto u) TERSEKV_INLINED {
        simd::f32 all[R];
        v.template each_piece<u>([&](auto first, auto i) TERSEKV_INLINED {
          each_sum<vectors, R>([&](auto k, auto r) TERSEKV_INLINED {
            const simd::f32 x = simd::load(row(r) + i * piece_rows + k * W);
            all[r] = first && k == 0 ? x : simd::add(all[r], x);
          });
        });
        shares.template set<u>(all);
      });
      shares.finish();
      for (int u = 0; u < units; ++u) std::copy_n(sum, R, all + u * R);
      using V = value_ops<values<R, Pieces>>;
      set_values(share, [&](int i) TERSEKV_INLINED {
        return V::div(V::load(share + i), V::max(V::load(all + i), V::set(1e-30f)));
      });
    }
    TERSEKV_INLINE const float* row(int r) const { return p + r * soft_rows; }
  };

  /// Weights times steps of one group, as integers: one scale per unit and row of the query.
  template <class P, int R, int Pieces>
  struct weights {
    using rows = group_rows<Pieces>;
    using V = value_ops<values<R, Pieces>>;
    static constexpr int units = rows::units;
    alignas(64) float scale[values<R, Pieces>];                           // of the factors
    alignas(64) float inverse[values<R, Pieces>];                         // of scale
    alignas(64) float integer[values<R, Pieces>];                         // sum of the factors
    alignas(64) float sizes[signed_steps<Grid> ? values<R, Pieces> : 1];  // likewise, without signs
    alignas(64) float by[R][W];              // of sums of products; as a vector: an operand in memory
    alignas(64) float constant[R][W];        // what sums of products of a tile leave out, likewise
    alignas(64) parts_of<P, units, R> part;  // of by[r] that the unit's scale is
    alignas(64) std::byte bytes[P::bytes(units * weight_rows / 4, R)];

    factor_rows<P> factors() const { return {const_cast<std::byte*>(bytes), units * weight_rows / 4}; }

    /// Adds to left_out[R] what sums of products leave out. False, and nothing is added: they are not precise.
    TERSEKV_INLINE bool fill(const rows& v, const row_weights<R, Pieces>& x, float* left_out) {
      float middles[R] = {};
      find_scales(v, x, middles);
      round(v, x);
      if constexpr (std::is_same_v<P, simd::narrow>)
        if (!is_precise(v, x)) return false;
      join_units(middles, left_out);
      return true;
    }

   private:
    /// The largest product of every unit; centres times weights.
    TERSEKV_INLINE void find_scales(const rows& v, const row_weights<R, Pieces>& x, float (&middles)[R]) {
      simd::f32 centres[R];
      lane_joins<largest_of_lanes, units, R> largests(scale);
      lane_joins<sum_of_lanes, units, R> lengths(sizes);
      each<units>([&](auto u) TERSEKV_INLINED {
        const float* p = fresh(x.p);
        simd::f32 most[R], all[R];
        v.template each_piece<u>([&](auto first, auto i) TERSEKV_INLINED {
          each<vectors>([&](auto k) TERSEKV_INLINED {
            constexpr bool begins = first && k == 0;
            const simd::f32 step = simd::load(v.step[i] + k * W), length = size(step);
            each<R>([&](auto r) TERSEKV_INLINED {
              const simd::f32 product = simd::mul(length, simd::load(p + r * soft_rows + i * piece_rows + k * W));
              most[r] = begins ? product : simd::max(most[r], product);
              if constexpr (signed_steps<Grid>) all[r] = begins ? product : simd::add(all[r], product);
            });
            if constexpr (Grid::numbers > 1) {
              const simd::f32 centre = simd::fma(step, simd::set(mean_code), simd::load(v.low[i] + k * W));
              const float* again = fresh(p);
              each<R>([&](auto r) TERSEKV_INLINED {
                const simd::f32 weight = simd::load(again + r * soft_rows + i * piece_rows + k * W);
                centres[r] = begins && u == 0 ? simd::mul(centre, weight) : simd::fma(centre, weight, centres[r]);
              });
            }
          });
        });
        largests.template set<u>(most);
        if constexpr (signed_steps<Grid>) lengths.template set<u>(all);
      });
      largests.finish();
      if constexpr (signed_steps<Grid>) lengths.finish();
      set_values(scale, [&](int i) TERSEKV_INLINED { return rounding<P>::template scales<V>(V::load(scale + i)); });
      set_values(inverse, [&](int i) TERSEKV_INLINED { return V::div(V::set(1), V::load(scale + i)); });
      if constexpr (V::lanes > 1) settle(inverse);
      if constexpr (Grid::numbers > 1) simd::sums(centres, middles);
    }
    TERSEKV_INLINE void round(const rows& v, const row_weights<R, Pieces>& x) {
      const float* p = x.p;  // read once: what is written as bytes might change it
      lane_joins<sum_of_lanes, units, R> integers(integer);
      each<units>([&](auto u) TERSEKV_INLINED {
        written_rows<P, R> rows;
        v.template each_piece<u>([&](auto first, auto i) TERSEKV_INLINED {
          simd::f32 step[vectors];
          each<vectors>([&](auto k) TERSEKV_INLINED { step[k] = simd::load(v.step[i] + k * W); });
          rows.write(
              first, factors(), i * piece_quads,
              [&](int r, int k) TERSEKV_INLINED {
                return simd::mul(simd::load(p + r * soft_rows + i * piece_rows + k * W), step[k]);
              },
              [&](int r) TERSEKV_INLINED { return simd::set(inverse[u * R + r]); });
        });
        rows.template store<u>(integers);
      });
      integers.finish();
    }
    /// Whether 7 bits are precise enough: they lose small weights beside a large one, and make noise. Both are held
    /// against all that was added up so far. docs/kernels.md
    TERSEKV_INLINE bool is_precise(const rows& v, const row_weights<R, Pieces>& x) const {
      const auto largest_loss = V::set(0.5f * weight_rows);
      if (!shows(
              x, [&](int) TERSEKV_INLINED { return largest_loss; },
              [&](int i) TERSEKV_INLINED { return signed_steps<Grid> ? exact_size(sizes, i) : V::load(integer + i); }))
        return true;
      return measures_precise(v, x);
    }
    TERSEKV_APART bool measures_precise(const rows& v, const row_weights<R, Pieces>& x) const {
      alignas(64) float total[values<R, Pieces>];  // of products, or of rounded sizes
      lane_joins<sum_of_lanes, units, R> totals(total);
      each<units>([&](auto u) TERSEKV_INLINED {
        simd::f32 all[R];
        v.template each_piece<u>([&](auto first, auto i) TERSEKV_INLINED {
          each<vectors>([&](auto k) TERSEKV_INLINED {
            const simd::f32 length = size(simd::load(v.step[i] + k * W));
            each<R>([&](auto r) TERSEKV_INLINED {
              simd::f32 product = simd::mul(length, simd::load(x.row(r) + i * piece_rows + k * W));
              if constexpr (signed_steps<Grid>)
                product = simd::round(simd::mul(product, simd::set(inverse[u * R + r])));
              all[r] = first && k == 0 ? product : simd::add(all[r], product);
            });
          });
        });
        totals.template set<u>(all);
      });
      totals.finish();
      const float* exact = signed_steps<Grid> ? sizes : total;
      const float* rounded = signed_steps<Grid> ? total : integer;
      return !shows(
          x, [&](int i) TERSEKV_INLINED { return V::magnitude(V::sub(exact_size(exact, i), V::load(rounded + i))); },
          [&](int i) TERSEKV_INLINED { return exact_size(exact, i); });
    }
    TERSEKV_INLINE typename V::f32 exact_size(const float* products, int i) const {
      return V::mul(V::load(products + i), V::load(inverse + i));
    }
    /// Whether what is lost of factors that add up to `whole` shows.
    template <class Lost, class Whole>
    static TERSEKV_INLINE bool shows(const row_weights<R, Pieces>& x, Lost&& lost, Whole&& whole) {
      typename V::f32 over = V::zero();
      each<values<R, Pieces> / V::lanes>([&](auto n) TERSEKV_INLINED {
        constexpr int i = n * V::lanes;
        const auto at_most = V::mul(whole(i), V::set(precise));
        over = V::max(over, V::sub(V::mul(V::load(x.share + i), V::add(lost(i), V::set(noise))), at_most));
      });
      return V::largest(over) > 0;
    }
    /// Scales of units as parts of one.
    TERSEKV_INLINE void join_units(const float (&middles)[R], float* left_out) {
      constexpr float largest_part = [] {
        if constexpr (units > 1) return static_cast<float>(P::largest_part(units));
        return 1.0f;
      }();
      alignas(64) float sums[values<R, Pieces>], most[values<R, Pieces>];
      set_values(sums, [&](int i) TERSEKV_INLINED { return V::mul(V::load(scale + i), V::load(integer + i)); });
      set_values(most, [&](int i) TERSEKV_INLINED { return V::load(scale + i); });
      join_rows<sum_of_lanes, units, R>(sums);
      join_rows<largest_of_lanes, units, R>(most);
      if constexpr (units > 1) {
        alignas(64) float parts[values<R, Pieces>];
        set_values(parts, [&](int i) TERSEKV_INLINED {
          return V::div(V::mul(V::load(scale + i), V::set(largest_part)), V::load(most + i));
        });
        P::store_parts(parts, part);
      }
      if constexpr (V::lanes > 1) {
        settle(sums);
        settle(most);
      }
      for (int r = 0; r < R; ++r) {
        left_out[r] += middles[r] - (mean_code - simd::origin) * sums[r];
        if constexpr (Pieces > 0) simd::store(constant[r], simd::set(left_out[r]));
        simd::store(by[r], simd::set(most[r] * (1.0f / largest_part)));
      }
    }
  };
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
