// SPDX-License-Identifier: Apache-2.0
// Outputs from packed values: out[r] += sum_t p[r][t] value_t, over the pieces of a tile, straight from the codes.
//
//   value_kernel<Format>
//     mix<R>(format, pieces, p, sum, out, stride)    p[r] [soft_rows] weights >= 0, zero for hidden rows; sum[r] of all
//                                               weights so far, these included; out[r] [dim]
//     finish(format, out, dim)                  once, when all rows are in
//
// Each row alone (grouped_format)   x = step (u - o) + centre:
//     out_c = sum_t (p_t step_t)(u_tc - o) + sum_t p_t centre_t, the weights p step as integers with one scale per row
//     of the query, group and `weight_rows` rows
// Numbers (dense_format)            plain sums
// Transformed (through_format)      the output is transformed back instead of the values
// Any other format                  rows are decoded, a few at a time: the reference of all kernels above
#pragma once
#include <tersekv/backend/cpu/key_kernel.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

template <class Format>
struct value_kernel {
  static constexpr bool packed = false;
  static void finish(const Format&, float*, int) {}
  template <int R>
  static void mix(const Format& format, const packed_pieces& v, const float* p, const float*, float* out, int stride) {
    constexpr int few = 4;
    float x[few * longest_row];
    for (int i = 0; i < v.count; ++i)
      for (int t = 0; t < piece_rows; t += few) {
        format.decode(v.piece[i].tile, v.rows, v.piece[i].first + t, few, v.dim, x);
        mix_numbers<float, R>(x, few, v.dim, 0, p + i * piece_rows + t, soft_rows, out, stride);
      }
  }
};

template <class T>
struct value_kernel<dense_format<T>> {
  static constexpr bool packed = true;
  using format = dense_format<T>;
  static void finish(const format&, float*, int) {}
  template <int R>
  static void mix(const format&, const packed_pieces& v, const float* p, const float*, float* out, int stride) {
    for (int i = 0; i < v.count; ++i)
      mix_numbers<T, R>(
          reinterpret_cast<const T*>(v.piece[i].tile) + static_cast<std::ptrdiff_t>(v.piece[i].first) * v.dim,
          piece_rows, v.dim, v.piece[i].ahead, p + i * piece_rows, soft_rows, out, stride);
  }
};

/// Grids of ggml write the sign of the largest number into the step.
template <class Grid>
inline constexpr bool signed_steps = Grid::numbers == 1 && !requires {
  Grid::sign;
};

template <class Grid, int Group, class Reopen>
requires group_of_quads<Group>
struct value_kernel<grouped_format<Grid, Group, Reopen, layout::channel_quads>> {
  static constexpr bool packed = true;
  using format = grouped_format<Grid, Group, Reopen, layout::channel_quads>;
  using plane = code_plane<layout::channel_quads, Grid::bits>;

  static void finish(const format&, float*, int) {}
  template <int R>
  static void mix(const format&, const packed_pieces& v, const float* p, const float* sum, float* out, int stride) {
    const int group = format::group(v.dim), groups = v.dim / group;
    alignas(64) float constant[Group == 0 ? 1 : longest_row / 32][R] = {};
    for (int i = 0; i < v.count; i += weight_pieces) {
      const row_weights<R> x(p + i * piece_rows, std::min(weight_pieces, v.count - i), sum);
      group_rows at(v, i, out);
      for (int k = 0; k < at.pieces(); ++k) {
        prefetch_scales(at.step[k], groups, v.rows, at.ahead[k]);
        if constexpr (Grid::numbers > 1) prefetch_scales(at.low[k], groups, v.rows, at.ahead[k]);
      }
      for (int g = 0; g < groups; ++g, at.next(group, v.rows)) {
        if constexpr (may_be_narrow<Grid>)
          if (add_group<simd::narrow>(at, group, x, constant[g], stride)) continue;
        add_wide(at, group, x, constant[g], stride);
      }
    }
    for (int g = 0; g < groups; ++g, out += group)
      each<R>([&](auto r) TERSEKV_INLINED {
        const simd::f32 y = simd::set(constant[g][r]);
        for (float* to = out + r * stride; to < out + r * stride + group; to += W)
          simd::store(to, simd::add(simd::load(to), y));
      });
  }

 private:
  static constexpr int W = simd::lanes;
  static constexpr int vectors = piece_rows / W;  // of a piece
  static constexpr int highest_code = middle<Grid>() * 2 - 1;
  /// Pieces whose weights share a scale and a sum of products. Fewer bits lose more to the codec, and need less.
  static constexpr int weight_pieces =
      std::min({Grid::bits == 4 ? 1 : tile_pieces, simd::wide::quads(highest_code) * 4 / piece_rows,
                may_be_narrow<Grid> ? simd::narrow::quads(highest_code) * 4 / piece_rows : tile_pieces});
  static constexpr int weight_rows = weight_pieces * piece_rows;
  static_assert(weight_pieces >= 1);
  /// The mean code: of a grid between minimum and maximum half a code below the middle one.
  static constexpr float mean_code = static_cast<float>(middle<Grid>()) - (Grid::numbers > 1 ? 0.5f : 0.0f);
  /// What rounding may change of all that was added up, in parts of it, and how much noise it makes, in its steps.
  static constexpr float noise = 2;
  static constexpr float precise = 0.005f * static_cast<float>(1 << (8 - 2 * std::min(4, Grid::bits)));

  /// Weights of some pieces.
  template <int R>
  struct row_weights {
    const float* p;     // [R, soft_rows]
    float share[R];     // of these rows in all weights so far
    float doubtful[R];  // sums of factors below it may not be precise

    TERSEKV_INLINE row_weights(const float* p, int pieces, const float* sum) : p(p) {
      simd::f32 all[R];
      each<R>([&](auto r) TERSEKV_INLINED { all[r] = simd::zero(); });
      for (int t = 0; t < pieces * piece_rows; t += piece_rows)
        each_sum<vectors, R>([&](auto k, auto r)
                                 TERSEKV_INLINED { all[r] = simd::add(all[r], simd::load(row(r) + t + k * W)); });
      simd::sums(all, share);
      for (int r = 0; r < R; ++r) share[r] = sum[r] > 0 ? share[r] / sum[r] : 0.0f;
      for (int r = 0; r < R; ++r) doubtful[r] = share[r] * ((0.5f * weight_rows + noise) / precise);
    }
    TERSEKV_INLINE const float* row(int r) const { return p + r * soft_rows; }
  };

  static TERSEKV_INLINE simd::f32 size(simd::f32 x) { return signed_steps<Grid> ? simd::magnitude(x) : x; }

  /// One group of some pieces.
  struct group_rows {
    const half* step[weight_pieces];
    const half* low[weight_pieces];
    const std::byte* code[weight_pieces];
    std::ptrdiff_t ahead[weight_pieces];
    float* out;
    int held;  // pieces

    TERSEKV_INLINE group_rows(const packed_pieces& v, int first, float* out)
        : out(out), held(std::min(weight_pieces, v.count - first)) {
      for (int i = 0; i < pieces(); ++i) {
        const packed_piece& piece = v.piece[first + i];
        step[i] = reinterpret_cast<const half*>(piece.tile + format::steps_at(v.rows, v.dim)) + piece.first;
        if constexpr (Grid::numbers > 1)
          low[i] = reinterpret_cast<const half*>(piece.tile + format::lows_at(v.rows, v.dim)) + piece.first;
        code[i] = piece.tile + static_cast<std::size_t>(piece.first / value_rows * plane::blocks(v.dim)) * block_bytes;
        ahead[i] = piece.ahead;
      }
    }
    TERSEKV_INLINE int pieces() const { return weight_pieces == 1 ? 1 : held; }
    TERSEKV_INLINE void next(int group, int rows) {
      for (int i = 0; i < pieces(); ++i) {
        step[i] += rows;
        if constexpr (Grid::numbers > 1) low[i] += rows;
        code[i] += static_cast<std::size_t>(group / block_lanes) * block_bytes;
      }
      out += group;
    }
    /// f(vector, row) for all vectors of rows.
    template <class F>
    TERSEKV_INLINE void each_vector(F&& f) const {
      for (int i = 0; i < pieces(); ++i)
        each<vectors>([&](auto k) TERSEKV_INLINED { f(i * vectors + k, i * piece_rows + k * W); });
    }
  };

  /// Whether 7 bits are precise enough for weights times steps times by[r]: they lose small weights beside a large one,
  /// and make noise. Both are held against all that was added up so far. docs/kernels.md
  template <int R>
  static TERSEKV_APART bool is_precise(group_rows v, const row_weights<R>& x, const float* by, const float* integer) {
    simd::f32 all[R];
    each<R>([&](auto r) TERSEKV_INLINED {
      all[r] = simd::zero();
      v.each_vector([&](auto, int t) TERSEKV_INLINED {
        all[r] = simd::fma(simd::load(v.step[t / piece_rows] + t % piece_rows), simd::load(x.row(r) + t), all[r]);
      });
    });
    float total[R];
    simd::sums(all, total);
    for (int r = 0; r < R; ++r) {
      const float exact = by[r] * total[r];
      if (x.share[r] * (std::abs(exact - integer[r]) + noise) > precise * std::abs(exact)) return false;
    }
    return true;
  }

  /// Weights times steps of one group, as integers.
  template <class P, int R>
  struct weights {
    alignas(64) float scale[R][W];  // each as a vector: an operand in memory
    alignas(64) std::byte bytes[P::bytes(weight_rows / 4, R)];

    factor_rows<P> factors() const { return {const_cast<std::byte*>(bytes), weight_rows / 4}; }

    /// Adds what sums of products leave out to constant[r]. False, and nothing is added: they are not precise.
    TERSEKV_INLINE bool fill(const group_rows& v, const row_weights<R>& x, float* constant) {
      simd::f32 step[weight_pieces * vectors], centre[weight_pieces * vectors];
      v.each_vector([&](auto i, int t) TERSEKV_INLINED {
        step[i] = simd::load(v.step[t / piece_rows] + t % piece_rows);
        if constexpr (Grid::numbers > 1)
          centre[i] = simd::fma(step[i], simd::set(mean_code), simd::load(v.low[t / piece_rows] + t % piece_rows));
      });
      simd::f32 most[R];
      each<R>([&](auto r) TERSEKV_INLINED { most[r] = simd::zero(); });
      v.each_vector([&](auto i, int t) TERSEKV_INLINED {
        each<R>([&](auto r) TERSEKV_INLINED {
          most[r] = simd::max(most[r], size(simd::mul(step[i], simd::load(x.row(r) + t))));
        });
      });
      float one[R], by[R];
      simd::largests(most, by);
      for (int r = 0; r < R; ++r) {
        const rounding<P> own(by[r]);
        one[r] = own.scale;
        by[r] = own.inverse;
      }
      simd::f32 rounded[R], centres[R];
      each<R>([&](auto r) TERSEKV_INLINED {
        typename P::acc sum = P::none();
        centres[r] = simd::zero();
        for (int i = 0; i < v.pieces(); ++i) {
          const auto number = [&](auto k) TERSEKV_INLINED {
            const simd::f32 p = simd::load(x.row(r) + i * piece_rows + k * W), c = centre[i * vectors + k];
            if constexpr (Grid::numbers > 1) centres[r] = i + k == 0 ? simd::mul(p, c) : simd::fma(p, c, centres[r]);
            return simd::mul(simd::mul(p, step[i * vectors + k]), simd::set(by[r]));
          };
          const typename P::acc added = factors().write(number, i * piece_rows / 4, R, r);
          sum = i == 0 ? added : P::plus(sum, added);
        }
        rounded[r] = P::value(sum);
      });
      float integer[R], middles[R];
      simd::sums(rounded, integer);
      if constexpr (std::is_same_v<P, simd::narrow>) {
        float room[R];
        for (int r = 0; r < R; ++r) room[r] = std::abs(integer[r]) - x.doubtful[r];
        int signs = 0;
        for (int r = 0; r < R; ++r) signs |= bit_cast<int>(room[r]);
        if (signs < 0 && !is_precise(v, x, by, integer)) return false;
      }
      if constexpr (Grid::numbers > 1) simd::sums(centres, middles);
      for (int r = 0; r < R; ++r) {
        constant[r] -= one[r] * (mean_code - simd::origin) * integer[r];
        if constexpr (Grid::numbers > 1) constant[r] += middles[r];
      }
      for (int r = 0; r < R; ++r) simd::store(scale[r], simd::set(one[r]));
      return true;
    }
  };

  template <int R>
  static TERSEKV_APART void add_wide(group_rows v, int group, const row_weights<R>& x, float* constant, int stride) {
    add_group<simd::wide>(v, group, x, constant, stride);
  }

  static constexpr std::size_t block_bytes = plane::block::bytes(value_rows);

  /// Adds all channels of the group to its outputs; false: weights would not be precise.
  template <class P, int R>
  static TERSEKV_INLINE bool add_group(group_rows v, int group, const row_weights<R>& x, float* constant, int stride) {
    weights<P, R> w;
    if (!w.fill(v, x, constant)) return false;
    constexpr int per_block = block_lanes / W;  // vectors
    constexpr bool large = R > 4 || sizeof(typename P::acc) > sizeof(simd::raw);
    constexpr int together = std::max(1, simd::together / (large ? 2 : 1));  // vectors that share a loaded factor
    constexpr int blocks = std::max(1, together / per_block);
    const int count = (group + block_lanes - 1) / block_lanes;
    const auto add = [&]<int Blocks>(std::integral_constant<int, Blocks>) TERSEKV_INLINED {
      constexpr int L = std::min(together, Blocks * per_block);
      each<Blocks * per_block / L>([&](auto i) TERSEKV_INLINED { add_vectors<P, R, L>(v, i * L, w, stride); });
      for (int i = 0; i < v.pieces(); ++i) v.code[i] += Blocks * block_bytes;
      v.out += Blocks * block_lanes;
    };
    int b = 0;
    for (; b + blocks <= count; b += blocks) add(std::integral_constant<int, blocks>{});
    if constexpr (blocks > 2)
      for (; b + 2 <= count; b += 2) add(std::integral_constant<int, 2>{});
    if constexpr (blocks > 1)
      for (; b < count; ++b) add(std::integral_constant<int, 1>{});
    return true;
  }

  /// out += products of L vectors of channels, from lane vector `lane` of the blocks on.
  template <class P, int R, int L>
  static TERSEKV_INLINE void add_vectors(const group_rows& v, int lane, const weights<P, R>& w, int stride) {
    typename P::acc a[L][R];
    const auto add = [&]<bool First>(std::bool_constant<First>, int i) TERSEKV_INLINED {
      add_products<Grid, P, value_rows / 4, First>(a, {v.code[i] + 4 * W * lane, block_bytes, v.ahead[i]}, value_rows,
                                                   0, value_rows / 4, w.factors(), i * (value_rows / 4));
    };
    add(std::true_type{}, 0);
    if constexpr (weight_pieces > 1)
      for (int i = 1; i < v.pieces(); ++i) add(std::false_type{}, i);
    each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
      float* to = v.out + r * stride + (lane + l) * W;
      simd::store(to, simd::fma(P::value(a[l][r]), simd::load(w.scale[r]), simd::load(to)));
    });
  }
};

template <class Transform, class Format>
struct value_kernel<through_format<Transform, Format, false>> {
  using format = through_format<Transform, Format, false>;
  using inner = value_kernel<Format>;
  static constexpr bool packed = inner::packed;
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
