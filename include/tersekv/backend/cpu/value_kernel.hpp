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
    const int groups = v.dim / format::group(v.dim);
    for (int i = 0; i < v.count; i += weight_pieces) {
      const packed_pieces some{v.piece + i, std::min(weight_pieces, v.count - i), v.rows, v.dim};
      const float* own = p + i * piece_rows;
      float share[R];  // of these rows in all weights so far
      if constexpr (may_be_narrow<Grid>) add_up<R>(own, some.count * piece_rows, sum, share);
      for (int g = 0; g < groups; ++g) {
        if constexpr (may_be_narrow<Grid>) {
          weights<simd::narrow, R> w;
          if (w.fill(some, g, own, share)) {
            add_group(some, g, w, out, stride);
            continue;
          }
        }
        weights<simd::wide, R> w;
        w.fill(some, g, own, share);
        add_group(some, g, w, out, stride);
      }
    }
  }

 private:
  static constexpr int W = simd::lanes;
  /// Pieces whose weights share a scale and a sum of products. Fewer bits lose more to the codec, and need less.
  static constexpr int weight_pieces =
      std::min({Grid::bits == 4 ? 1 : tile_pieces, simd::wide::quads(middle<Grid>()) * 4 / piece_rows,
                may_be_narrow<Grid> ? simd::narrow::quads(middle<Grid>()) * 4 / piece_rows : tile_pieces});
  static constexpr int weight_rows = weight_pieces * piece_rows;
  static_assert(weight_pieces >= 1);
  /// The mean code of a group between its minimum and maximum is half a code below the middle one.
  static constexpr float half_code = Grid::numbers > 1 ? 0.5f : 0.0f;
  /// What rounding may change of all that was added up, in parts of it.
  static constexpr float precise = 0.005f * static_cast<float>(1 << (8 - 2 * std::min(4, Grid::bits)));

  template <int R>
  static TERSEKV_INLINE void add_up(const float* p, int rows, const float* sum, float (&share)[R]) {
    simd::f32 all[R];
    each<R>([&](auto r) TERSEKV_INLINED { all[r] = simd::zero(); });
    for (int t = 0; t < rows; t += piece_rows)
      each<piece_rows / W>([&](auto k) TERSEKV_INLINED {
        each<R>([&](auto r) TERSEKV_INLINED { all[r] = simd::add(all[r], simd::load(p + r * soft_rows + t + k * W)); });
      });
    simd::sums(all, share);
    each<R>([&](auto r) TERSEKV_INLINED { share[r] = sum[r] > 0 ? share[r] / sum[r] : 0.0f; });
  }

  /// Weights times steps of one group, as integers.
  template <class P, int R>
  struct weights {
    alignas(64) float scale[R][W];     // each as a vector: an operand in memory
    alignas(64) float constant[R][W];  // likewise: sum of p times centre
    start_words start[R];
    alignas(64) std::byte bytes[P::bytes(weight_rows / 4, R)];

    factor_rows<P> factors() const { return {const_cast<std::byte*>(bytes), weight_rows / 4}; }

    /// Whether they are precise enough: 7 bits lose small weights beside a large one, and make noise. Both are held
    /// against all that was added up so far. docs/kernels.md
    TERSEKV_INLINE bool fill(const packed_pieces& v, int g, const float* p, const float* share) {
      constexpr bool test = std::is_same_v<P, simd::narrow>;
      alignas(64) float w[R][weight_rows];
      simd::f32 most[R], all[R], centred[R];
      each<R>([&](auto r) TERSEKV_INLINED { most[r] = all[r] = centred[r] = simd::zero(); });
      for (int i = 0; i < v.count; ++i) {
        const packed_piece& piece = v.piece[i];
        const auto at = static_cast<std::ptrdiff_t>(g) * v.rows + piece.first;
        const half* steps = reinterpret_cast<const half*>(piece.tile + format::steps_at(v.rows, v.dim)) + at;
        const half* lows = Grid::numbers > 1
                               ? reinterpret_cast<const half*>(piece.tile + format::lows_at(v.rows, v.dim)) + at
                               : nullptr;
        each<piece_rows / W>([&](auto k) TERSEKV_INLINED {
          const simd::f32 step = simd::load(steps + k * W);
          simd::f32 centre;
          if constexpr (Grid::numbers > 1)
            centre =
                simd::fma(step, simd::set(static_cast<float>(middle<Grid>()) - half_code), simd::load(lows + k * W));
          each<R>([&](auto r) TERSEKV_INLINED {
            const simd::f32 x = simd::load(p + r * soft_rows + i * piece_rows + k * W), y = simd::mul(x, step);
            simd::store(w[r] + i * piece_rows + k * W, y);
            most[r] = simd::max(most[r], signed_steps<Grid> ? simd::magnitude(y) : y);
            if constexpr (test) all[r] = simd::add(all[r], y);
            if constexpr (Grid::numbers > 1) centred[r] = simd::fma(x, centre, centred[r]);
          });
        });
      }
      float largest[R], middles[R], total[R];
      simd::largests(most, largest);
      if constexpr (Grid::numbers > 1) simd::sums(centred, middles);
      if constexpr (test) simd::sums(all, total);
      bool fine = true;
      for (int r = 0; r < R; ++r) {
        const rounding<P> by(largest[r]);
        const start_words added = factors().round(
            w[r], 0, v.count * piece_rows / 4, [&](int) TERSEKV_INLINED { return simd::set(by.inverse); }, R, r);
        const float one = by.scale;
        const float rounded = static_cast<float>(P::total(added));
        if constexpr (test) {
          const float lost = std::abs(total[r] - one * rounded);
          fine = fine && share[r] * (lost + 2.0f * one) <= precise * std::abs(total[r]);
        }
        simd::store(scale[r], simd::set(one));
        start[r] = P::centred(added, middle<Grid>());
        if constexpr (Grid::numbers > 1) simd::store(constant[r], simd::set(middles[r] + half_code * one * rounded));
      }
      return fine;
    }
  };

  static constexpr std::size_t block_bytes = plane::block::bytes(value_rows);

  template <class P, int R>
  static TERSEKV_INLINE void add_group(const packed_pieces& v, int g, const weights<P, R>& w, float* out, int stride) {
    constexpr int vectors = block_lanes / W;  // of a block
    constexpr bool large = R > 4 || sizeof(typename P::acc) > sizeof(simd::raw);
    constexpr int together = std::max(1, simd::together / (large ? 2 : 1));  // vectors that share a loaded factor
    constexpr int blocks = std::max(1, together / vectors);
    const int group = format::group(v.dim), first = g * group / block_lanes;
    const int count = (group + block_lanes - 1) / block_lanes;
    const std::byte* codes[weight_pieces];
    for (int i = 0; i < v.count; ++i)
      codes[i] = v.piece[i].tile +
                 static_cast<std::size_t>(v.piece[i].first / value_rows * plane::blocks(v.dim) + first) * block_bytes;
    out += first * block_lanes;
    const auto add = [&]<int Blocks>(std::integral_constant<int, Blocks>) TERSEKV_INLINED {
      constexpr int L = std::min(together, Blocks * vectors);
      each<Blocks * vectors / L>(
          [&](auto i) TERSEKV_INLINED { add_vectors<P, R, L>(v, codes, i * L, w, out + i * L * W, stride); });
      for (int i = 0; i < v.count; ++i) codes[i] += Blocks * block_bytes;
      out += Blocks * block_lanes;
    };
    int b = 0;
    for (; b + blocks <= count; b += blocks) add(std::integral_constant<int, blocks>{});
    if constexpr (blocks > 2)
      for (; b + 2 <= count; b += 2) add(std::integral_constant<int, 2>{});
    if constexpr (blocks > 1)
      for (; b < count; ++b) add(std::integral_constant<int, 1>{});
  }

  /// out += products of L vectors of channels, from lane vector `lane` of the blocks on.
  template <class P, int R, int L>
  static TERSEKV_INLINE void add_vectors(const packed_pieces& v, const std::byte* const* codes, int lane,
                                         const weights<P, R>& w, float* out, int stride) {
    typename P::acc a[L][R];
    each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED { a[l][r] = P::start(w.start[r]); });
    for (int i = 0; i < v.count; ++i)
      add_products<Grid, P, value_rows / 4>(a, {codes[i] + 4 * W * lane, block_bytes, v.piece[i].ahead}, value_rows, 0,
                                            value_rows / 4, w.factors(), i * (value_rows / 4));
    each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
      float* to = out + r * stride + l * W;
      simd::f32 x = simd::load(to);
      if constexpr (Grid::numbers > 1) x = simd::add(x, simd::load(w.constant[r]));
      simd::store(to, simd::fma(P::value(a[l][r]), simd::load(w.scale[r]), x));
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
