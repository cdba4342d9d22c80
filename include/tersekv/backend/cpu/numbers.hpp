// SPDX-License-Identifier: Apache-2.0
// Scores and outputs of rows that are stored as numbers: sums of products of floats, for up to 8 query rows at a time.
#pragma once
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <tersekv/backend/cpu/product.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// Queries and outputs have rows of this many floats.
constexpr int padded(int dim) { return round_up_to(dim, 32); }

/// Queries as they came: [R, padded(dim)].
struct plain_query {
  static std::size_t bytes(int dim, int rows) { return sizeof(float) * static_cast<std::size_t>(padded(dim) * rows); }
  template <int R>
  static void write(const float* const (&q)[R], int dim, std::byte* to) {
    for (int r = 0; r < R; ++r) std::copy_n(q[r], padded(dim), reinterpret_cast<float*>(to) + r * padded(dim));
  }
  template <int R>
  static void read(const std::byte* query, int dim, const float* (&q)[R]) {
    for (int r = 0; r < R; ++r) q[r] = reinterpret_cast<const float*>(query) + r * padded(dim);
  }
};

/// Asks for all lines.
TERSEKV_INLINE void prefetch_all(const std::byte* p, std::size_t bytes) {
  for (std::size_t b = 0; b < bytes; b += 64) simd::prefetch(p + b);
}

/// Makes the addresses of a page known: processors drop prefetches of lines whose address they would have to look up.
TERSEKV_INLINE void prefetch_addresses([[maybe_unused]] const std::byte* page, [[maybe_unused]] std::size_t bytes) {
#if defined(__GNUC__)
  constexpr std::size_t step = 4096;
  for (std::size_t b = 0; b < bytes + step - 1; b += step) __builtin_prefetch(page + std::min(b, bytes - 1));
#endif
}

/// The numbers of piece i; what is asked for while they are read.
template <class T>
const T* numbers_of(const packed_piece& piece, int dim) {
  return reinterpret_cast<const T*>(piece.tile) + static_cast<std::ptrdiff_t>(piece.first) * dim;
}
template <class T>
TERSEKV_INLINE auto number_lines(const packed_pieces& all, int i) {
  if constexpr (simd::streams == 1)
    return same_lines::of(all, i);
  else
    return line_streams::of(all, i, piece_rows * static_cast<std::size_t>(all.dim) * sizeof(T),
                            [&](const packed_piece& p) TERSEKV_INLINED {
                              return reinterpret_cast<const std::byte*>(numbers_of<T>(p, all.dim));
                            });
}
/// Nothing is asked for.
struct no_lines {
  template <int N>
  TERSEKV_INLINE void ask(std::size_t, const std::byte*) const {}
};

/// Dot products of `count` rows of numbers.
template <class T, int R, class Ahead>
void score_numbers(const T* keys, int count, int dim, const Ahead& ahead, const float* const (&q)[R], float* s,
                   int stride) {
  constexpr int W = simd::lanes, together = std::max(1, std::min(4, simd::registers / 2 / R));
  const int whole = dim / (2 * W) * (2 * W);
  std::size_t line = 0;
  const auto rows = [&]<int N>(std::integral_constant<int, N>, int t) TERSEKV_INLINED {
    simd::f32 a[R][N];
    each_sum<R, N>([&](auto r, auto n) TERSEKV_INLINED { a[r][n] = simd::zero(); });
    const T* k = keys + static_cast<std::ptrdiff_t>(t) * dim;
    constexpr int lines = (2 * N * W * static_cast<int>(sizeof(T)) + line_bytes - 1) / line_bytes;  // of two steps
    const auto* asked = reinterpret_cast<const std::byte*>(k);  // in the order of addresses
    for (int c = 0; c < whole; c += 2 * W, line += lines, asked += lines * line_bytes) {
      ahead.template ask<lines>(line, asked);
      each<2>([&](auto step) TERSEKV_INLINED {
        simd::f32 x[N];
        each<N>([&](auto n) TERSEKV_INLINED { x[n] = simd::load(k + n * dim + c + step * W); });
        each<R>([&](auto r) TERSEKV_INLINED {
          const simd::f32 y = simd::load(q[r] + c + step * W);
          each<N>([&](auto n) TERSEKV_INLINED { a[r][n] = simd::fma(x[n], y, a[r][n]); });
        });
      });
    }
    each<R>([&](auto r) TERSEKV_INLINED { simd::sums(a[r], s + r * stride + t); });
  };
  int t = 0;
  for (; t + together <= count; t += together) rows(std::integral_constant<int, together>{}, t);
  for (; t < count; ++t) rows(std::integral_constant<int, 1>{}, t);
  for (int c = whole; c < dim; c += W)  // apart: registers of the loop above would go to memory
    for (t = 0; t < count; ++t) {
      const simd::f32 x = simd::load_part(keys + static_cast<std::ptrdiff_t>(t) * dim + c, std::min(W, dim - c));
      for (int r = 0; r < R; ++r) s[r * stride + t] += simd::sum(simd::mul(x, simd::load(q[r] + c)));
    }
}

/// out[r] += p[r] times `count` rows of numbers.
template <class T, int R, class Ahead>
void mix_numbers(const T* values, int count, int dim, const Ahead& ahead, const float* p, int p_stride, float* out,
                 int stride) {
  constexpr int W = simd::lanes;
  std::size_t line = 0;
  const auto columns = [&]<int N, bool Part>(std::integral_constant<int, N>, std::bool_constant<Part>, const int c,
                                             const int part) TERSEKV_INLINED {
    constexpr int lines = N * W * static_cast<int>(sizeof(T)) / line_bytes, some = std::max(1, lines);
    const bool asks = lines > 0 || c * static_cast<int>(sizeof(T)) % line_bytes == 0;  // narrower columns share lines
    simd::f32 a[R][N];
    each_sum<R, N>([&](auto r, auto n) TERSEKV_INLINED { a[r][n] = simd::zero(); });  // a long sum rounds more
    const T* v = values + c;
    for (int t = 0; t < count; ++t, v += dim) {
      if (asks) {
        ahead.template ask<some>(line, reinterpret_cast<const std::byte*>(v));
        line += some;
      }
      simd::f32 x[N];
      each<N>([&](auto n) TERSEKV_INLINED {
        if constexpr (Part)
          x[n] = simd::load_part(v + n * W, part);
        else
          x[n] = simd::load(v + n * W);
      });
      each<R>([&](auto r) TERSEKV_INLINED {
        const simd::f32 y = simd::set(p[r * p_stride + t]);
        each<N>([&](auto n) TERSEKV_INLINED { a[r][n] = simd::fma(x[n], y, a[r][n]); });
      });
    }
    each_sum<R, N>([&](auto r, auto n) TERSEKV_INLINED {
      float* to = out + r * stride + c + n * W;
      simd::store(to, simd::add(simd::load(to), a[r][n]));
    });
  };
  constexpr int together = std::max(1, std::min(8, simd::registers / 2 / R));
  int c = 0;
  for (; c + together * W <= dim; c += together * W)
    columns(std::integral_constant<int, together>{}, std::false_type{}, c, 0);
  for (; c + W <= dim; c += W) columns(std::integral_constant<int, 1>{}, std::false_type{}, c, 0);
  if (c < dim) columns(std::integral_constant<int, 1>{}, std::true_type{}, c, dim - c);
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
