// SPDX-License-Identifier: Apache-2.0
// Outputs from packed values: out[r] += sum_t p[r][t] value_t, over the pieces of a tile, straight from the codes.
//
//   value_kernel<Format>
//     mix<R>(format, pieces, p, sum, out, stride)    p[r] [soft_rows] weights >= 0, zero for hidden rows; sum[r] of all
//                                               weights so far, these included; out[r] [dim]
//     finish(format, out, dim)                  once, when all rows are in
//     piece_lines(dim)                          lines of codes that are read of 32 rows, where reads_codes
//     first_tiles                               whose weights should all be known before the first of them is mixed
//
// Each row alone (grouped_format)   x = step (u - o) + centre:
//     out_c = sum_t (p_t step_t)(u_tc - o) + sum_t p_t centre_t, the weights p step as integers with one scale per row
//     of the query, group and `weight_rows` rows
// Numbers (dense_format)            plain sums
// Transformed (through_format)      the output is transformed back instead of the values
// Any other format                  rows are decoded, a few at a time: the reference of all kernels above
#pragma once
#include <tersekv/backend/cpu/value_weights.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

template <class Format>
struct value_kernel {
  static constexpr bool packed = false, reads_codes = false;
  static constexpr int first_tiles = 1;
  static void finish(const Format&, float*, int) {}
  template <int R>
  static void mix(const Format& format, const packed_pieces& v, const float* p, const float*, float* out, int stride) {
    constexpr int few = 4;
    float x[few * longest_row];
    for (int i = 0; i < v.count; ++i)
      for (int t = 0; t < piece_rows; t += few) {
        format.decode(v.piece[i].tile, v.rows, v.piece[i].first + t, few, v.dim, x);
        mix_numbers<float, R>(x, few, v.dim, no_lines{}, p + i * piece_rows + t, soft_rows, out, stride);
      }
  }
};

template <class T>
struct value_kernel<dense_format<T>> {
  static constexpr bool packed = true, reads_codes = false;
  static constexpr int first_tiles = 1;
  using format = dense_format<T>;
  static void finish(const format&, float*, int) {}
  template <int R>
  static void mix(const format&, const packed_pieces& v, const float* p, const float*, float* out, int stride) {
    for (int i = 0; i < v.count; ++i)
      mix_numbers<T, R>(numbers_of<T>(v.piece[i], v.dim), piece_rows, v.dim, number_lines<T>(v, i), p + i * piece_rows,
                        soft_rows, out, stride);
  }
};

template <class Grid, int Group, class Reopen>
requires group_of_quads<Group>
struct value_kernel<grouped_format<Grid, Group, Reopen, layout::channel_quads>> {
  static constexpr bool packed = true, reads_codes = true;
  using format = grouped_format<Grid, Group, Reopen, layout::channel_quads>;
  /// A weight is rounded as coarsely as all weights so far allow, and those of the first tile alone allow little.
  static constexpr int first_tiles = may_be_narrow<Grid> && Grid::bits > 2 ? 8 : 1;

  static int piece_lines(int dim) {
    return prepared::plane::blocks(dim) * static_cast<int>(prepared::block_bytes / line_bytes);
  }
  static void finish(const format&, float*, int) {}
  template <int R>
  static void mix(const format&, const packed_pieces& v, const float* p, const float* sum, float* out, int stride) {
    if constexpr (prepared::adds_tiles)
      if (v.count == tile_pieces) return add_pieces<R, tile_pieces>(v, 0, p, sum, nullptr, out, stride);
    const int group = format::group(v.dim), groups = v.dim / group;
    float constant[Group == 0 ? 1 : longest_row / 32][R] = {};
    for (int i = 0; i < v.count; i += prepared::weight_pieces) add_pieces<R, 0>(v, i, p, sum, constant, out, stride);
    for (int g = 0; g < groups; ++g) add_constant(constant[g], group, out + g * group, stride);
  }

 private:
  using prepared = value_weights<format>;
  template <int Pieces>
  using group_rows = typename prepared::template group_rows<Pieces>;
  template <int R, int Pieces>
  using row_weights = typename prepared::template row_weights<R, Pieces>;
  template <class P, int R, int Pieces>
  using weights = typename prepared::template weights<P, R, Pieces>;
  static constexpr int W = simd::lanes;

  /// Adds pieces from number `first` on to all outputs: a whole tile (Pieces > 0), or a unit.
  template <int R, int Pieces>
  static TERSEKV_INLINE void add_pieces(const packed_pieces& v, int first, const float* p, const float* sum,
                                        float (*constant)[R], float* out, int stride) {
    const int group = format::group(v.dim), groups = v.dim / group;
    group_rows<Pieces> at(v, first, out);
    const row_weights<R, Pieces> x(at, p + first * piece_rows, sum);
    for (int k = 0; k < at.pieces(); ++k) {
      prefetch_scales<usual_groups(Group)>(at.step[k], groups, v.rows, v.piece[first + k].ahead);
      if constexpr (Grid::numbers > 1)
        prefetch_scales<usual_groups(Group)>(at.low[k], groups, v.rows, v.piece[first + k].ahead);
    }
    for (int g = 0; g < groups; ++g, at.next(group, v.rows)) {
      if constexpr (Pieces > 0) {
        float left_out[R] = {};
        if (!add_group<simd::narrow, R>(at, group, x, left_out, stride)) add_units<R>(at, group, x, stride);
      } else {
        if constexpr (may_be_narrow<Grid>)
          if (add_group<simd::narrow, R>(at, group, x, constant[g], stride)) continue;
        add_wide<R>(at, group, x, constant[g], stride);
      }
    }
  }
  template <int R>
  static TERSEKV_APART void add_wide(group_rows<0> v, int group, const row_weights<R, 0>& x, float* left_out,
                                     int stride) {
    add_group<simd::wide, R>(v, group, x, left_out, stride);
  }
  /// Adds what sums of products left out to all channels of a group.
  template <int R>
  static TERSEKV_INLINE void add_constant(const float (&constant)[R], int group, float* out, int stride) {
    each<R>([&](auto r) TERSEKV_INLINED {
      const simd::f32 y = simd::set(constant[r]);
      for (float* to = out + r * stride; to < out + r * stride + group; to += W)
        simd::store(to, simd::add(simd::load(to), y));
    });
  }
  /// Every unit of a tile on its own, as precisely as it needs.
  template <int R, int Pieces>
  static TERSEKV_APART void add_units(const group_rows<Pieces>& v, int group, const row_weights<R, Pieces>& x,
                                      int stride) {
    float constant[R] = {};
    for (int u = 0; u < v.units; ++u) {
      const group_rows<0> some = v.unit(u);
      const row_weights<R, 0> weights(some, x.p + u * prepared::weight_rows, x.sum);
      if constexpr (group_rows<Pieces>::units > 1)
        if (add_group<simd::narrow, R>(some, group, weights, constant, stride)) continue;
      add_wide<R>(some, group, weights, constant, stride);
    }
    add_constant(constant, group, v.out, stride);
  }

  /// Adds all channels of the group to its outputs; false: weights would not be precise.
  template <class P, int R, int Pieces>
  static TERSEKV_INLINE bool add_group(const group_rows<Pieces>& v, int group, const row_weights<R, Pieces>& x,
                                       float* left_out, int stride) {
    weights<P, R, Pieces> w;
    if (!w.fill(v, x, left_out)) return false;
    constexpr int per_block = block_lanes / W;  // vectors
    constexpr bool large = R > 4 || sizeof(typename P::acc) > sizeof(simd::raw) || group_rows<Pieces>::units > 1;
    constexpr int together = std::max(1, simd::together / (large ? 2 : 1));  // vectors that share a loaded factor
    constexpr int blocks = std::max(1, together / per_block);
    const int count = (group + block_lanes - 1) / block_lanes;
    const std::byte* code[group_rows<Pieces>::most];
    std::copy_n(v.code, v.pieces(), code);
    float* out = v.out;
    const auto add = [&]<int Blocks>(std::integral_constant<int, Blocks>) TERSEKV_INLINED {
      constexpr int L = std::min(together, Blocks * per_block);
      each<Blocks * per_block / L>(
          [&](auto i) TERSEKV_INLINED { add_vectors<P, R, L>(v, code, i * L, w, out + i * L * W, stride); });
      for (int i = 0; i < v.pieces(); ++i) code[i] += Blocks * prepared::block_bytes;
      out += Blocks * block_lanes;
    };
    int b = 0;
    for (; b + blocks <= count; b += blocks) add(std::integral_constant<int, blocks>{});
    if constexpr (blocks > 2)
      for (; b + 2 <= count; b += 2) add(std::integral_constant<int, 2>{});
    if constexpr (blocks > 1)
      for (; b < count; ++b) add(std::integral_constant<int, 1>{});
    return true;
  }

  /// out += products of L vectors of channels, from lane vector `lane` of the blocks on that begin at code.
  template <class P, int R, int L, int Pieces>
  static TERSEKV_INLINE void add_vectors(const group_rows<Pieces>& v,
                                         const std::byte* const (&code)[group_rows<Pieces>::most], int lane,
                                         const weights<P, R, Pieces>& w, float* out, int stride) {
    constexpr int units = group_rows<Pieces>::units;
    const factor_rows<P> factors = w.factors();
    const std::byte* factor = fresh<std::byte>(factors.at);
    product_sum<P, prepared::template places<P, R>()> a[L][R];
    const auto multiply = [&](auto u) TERSEKV_INLINED {
      v.template each_piece<u>([&](auto first, auto i) TERSEKV_INLINED {
        using from = std::conditional_t<first, from_nothing, from_sums>;
        add_products<Grid, P, prepared::piece_quads>(
            a, from{}, lane_vectors<code_lines>{code[i] + 4 * W * lane, prepared::block_bytes, v.ahead[i]}, value_rows,
            0, prepared::piece_quads, factor + i * prepared::piece_quads * P::quad_bytes(R),
            P::row_bytes(factors.quads));
      });
    };
    simd::f32 sum[L][R];
    if constexpr (units == 1) {
      multiply(std::integral_constant<int, 0>{});
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED { sum[l][r] = P::value(a[l][r].whole_positive()); });
    } else {
      typename P::weighed all[L][R];
      each<units>([&](auto u) TERSEKV_INLINED {
        multiply(u);
        each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
          const auto& x = a[l][r].whole_positive();
          all[l][r] = u == 0 ? P::weigh(x, w.part[u][r]) : P::add_weighed(all[l][r], x, w.part[u][r]);
        });
      });
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED { sum[l][r] = P::weighed_value(all[l][r]); });
    }
    each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
      float* to = out + r * stride + l * W;
      simd::f32 before = simd::load(to);
      if constexpr (Pieces > 0) before = simd::add(before, simd::load(w.constant[r]));
      simd::store(to, simd::fma(sum[l][r], simd::load(w.by[r]), before));
    });
  }
};

template <class Transform, class Format>
struct value_kernel<through_format<Transform, Format, false>> {
  using format = through_format<Transform, Format, false>;
  using inner = value_kernel<Format>;
  static constexpr bool packed = inner::packed, reads_codes = inner::reads_codes;
  static constexpr int first_tiles = inner::first_tiles;
  static int piece_lines(int dim) { return inner::piece_lines(dim); }
  static void finish(const format& f, float* out, int dim) {
    inner::finish(f.inner, out, dim);
    f.turn.output(out, dim);
  }
  template <int R>
  static void mix(const format& f, const packed_pieces& v, const float* p, const float* sum, float* out, int stride) {
    inner::template mix<R>(f.inner, v, p, sum, out, stride);
  }
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
