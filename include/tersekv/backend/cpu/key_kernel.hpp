// SPDX-License-Identifier: Apache-2.0
// Scores of packed keys: s[r][t] = <query r, key t>, straight from the codes.
//
//   key_kernel<Format>
//     query_bytes(format, dim, R)            of a prepared query
//     prepare<R>(format, q[R], dim, to)      once per step and head; q[r] is readable, and zero, up to padded(dim); to
//                                            begins a cache line
//     piece_lines(dim)                       lines of codes that are read of 32 rows, where reads_codes
//     score<R>(format, pieces, query, s)     s[r] [soft_rows]; 32 scores per piece
//
// Each row alone (grouped_format)   x = step (u - o) + centre, o the middle code:
//     s_t = sum over groups of step_t <q, u_t - o> + centre_t sum(q)         o is folded into what sums begin with;
//                                                                            with minima, where that may be nothing, o
//                                                                            is 0, and centre the minimum
// Spans of rows (channel_format)    s_t = <q step, u_t - o> + <q, centre>    the query is folded and rounded per span
// Numbers (dense_format)            plain dot products
// Transformed (through_format)      the query is transformed instead of the keys
// Any other format                  rows are decoded, a few at a time: the reference of all kernels above
#pragma once
#include <algorithm>
#include <cmath>
#include <type_traits>

#include <tersekv/adapt/through.hpp>
#include <tersekv/backend/cpu/integer_query.hpp>
#include <tersekv/backend/cpu/numbers.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/grouped.hpp>
#include <tersekv/codec/kivi.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// Lane vectors that share a loaded factor in scores.
inline constexpr int score_vectors = std::min(simd::together, piece_rows / simd::lanes);

using key_lanes = lane_vectors<code_lines>;

/// Lines of codes of a piece.
template <class Plane>
int lines_of_blocks(int dim) {
  return piece_rows / block_lanes * static_cast<int>(Plane::block::bytes(Plane::depth(dim)) / line_bytes);
}
/// Calls f(row, lanes) for every L vectors of the rows of piece i.
template <int L, class F>
TERSEKV_INLINE void for_each_lanes(const packed_pieces& k, int i, std::size_t block, F&& f) {
  constexpr int vectors = block_lanes / simd::lanes, blocks = std::max(1, L / vectors);
  const packed_piece& piece = k.piece[i];
  const std::byte* at = piece.tile + static_cast<unsigned>(piece.first) / block_lanes * block;
  const code_lines ahead = code_lines::of(k, i);
  for (int t = 0; t < piece_rows; t += blocks * block_lanes, at += blocks * block)
    each<std::max(1, vectors / L)>([&](auto i) TERSEKV_INLINED {
      constexpr int lane = i * L * simd::lanes;
      f(t + lane, key_lanes{at + 4 * lane, block, ahead});
    });
}

/// sum[l][r] += scale(l, r) * products of the chunks of quads [first, last), whose factors begin at quad `from`. Chunk:
/// quads of one sum. Known: a count of quads that is often met and fits in a chunk; 0 = none.
template <class Grid, class P, int Chunk, int Known, int R, int L, class Start, class Scale>
TERSEKV_INLINE void add_chunks(simd::f32 (&sum)[L][R], const key_lanes& lanes, int depth, int first, int last,
                               const factor_rows<P>& factors, int from, Start& start, Scale&& scale) {
  const auto add = [&]<int Count>(std::integral_constant<int, Count>, int c, int count) TERSEKV_INLINED {
    product_sum<P, places<Grid, P, R>()> a[L][R];
    add_products<Grid, P, Count>(a, start, lanes, static_cast<std::size_t>(depth), static_cast<std::size_t>(c),
                                 static_cast<std::size_t>(count), fresh<std::byte>(factors.row(R, 0, from + c - first)),
                                 P::row_bytes(factors.quads));
    each_sum<L, R>([&](auto l, auto r)
                       TERSEKV_INLINED { sum[l][r] = simd::fma(P::value(a[l][r].whole()), scale(l, r), sum[l][r]); });
    start = start.after(R);
  };
  int c = first;
  if constexpr (Known > 0)
    for (; c + Known <= last; c += Known) add(std::integral_constant<int, Known>{}, c, Known);
  for (; c < last; c += Chunk) add(std::integral_constant<int, 0>{}, c, std::min(Chunk, last - c));
}
/// Asks for what stands `ahead` bytes behind these scales: `lines` lines, `apart` numbers from one to the next. Usual:
/// a number of lines that is often met.
template <int Usual = 1>
TERSEKV_INLINE void prefetch_scales(const half* scales, int lines, int apart, std::ptrdiff_t ahead) {
  if constexpr (code_lines::covers_scales) return;
  const auto* at = reinterpret_cast<const std::byte*>(scales) + ahead;
  const auto ask = [&](auto i) TERSEKV_INLINED { simd::prefetch(at + static_cast<std::ptrdiff_t>(i) * apart * 2); };
  if (lines == Usual)
    each<Usual>(ask);
  else
    for (int i = 0; i < lines; ++i) ask(i);
}
/// A whole chunk, where that is little code.
inline constexpr int known_chunk(int chunk) { return chunk <= simd::written_out ? chunk : 0; }
/// Channels of most heads, and groups of them.
inline constexpr int usual_dim = 128;
inline constexpr int usual_groups(int group) { return group > 0 && group < usual_dim ? usual_dim / group : 1; }

/// Queries that are read as numbers.
struct queries_as_numbers {
  template <class Format>
  static std::size_t query_bytes(const Format&, int dim, int rows) {
    return plain_query::bytes(dim, rows);
  }
  template <int R, class Format>
  static void prepare(const Format&, const float* const (&q)[R], int dim, std::byte* to) {
    plain_query::write<R>(q, dim, to);
  }
};

/// Formats without a kernel of their own.
template <class Format>
struct key_kernel : queries_as_numbers {
  static constexpr bool packed = false, reads_codes = false;
  template <int R>
  static void score(const Format& format, const packed_pieces& k, const std::byte* query, float* s) {
    constexpr int few = 4;  // divides a piece
    float x[few * longest_row];
    const float* q[R];
    plain_query::read<R>(query, k.dim, q);
    for (int i = 0; i < k.count; ++i)
      for (int t = 0; t < piece_rows; t += few) {
        format.decode(k.piece[i].tile, k.rows, k.piece[i].first + t, few, k.dim, x);
        score_numbers<float, R>(x, few, k.dim, no_lines{}, q, s + i * piece_rows + t, soft_rows);
      }
  }
};

template <class T>
struct key_kernel<dense_format<T>> : queries_as_numbers {
  static constexpr bool packed = true, reads_codes = false;
  using format = dense_format<T>;
  template <int R>
  static void score(const format&, const packed_pieces& k, const std::byte* query, float* s) {
    const float* q[R];
    plain_query::read<R>(query, k.dim, q);
    for (int i = 0; i < k.count; ++i)
      score_numbers<T, R>(numbers_of<T>(k.piece[i], k.dim), piece_rows, k.dim, number_lines<T>(k, i), q,
                          s + i * piece_rows, soft_rows);
  }
};

// ------------------------------------------------------------------------------------------------ each row alone

/// Groups that whole steps of quads fill; others are decoded.
template <int Group>
concept group_of_quads = Group % 32 == 0;

template <class Grid, int Group, class Reopen>
requires group_of_quads<Group>
struct key_kernel<grouped_format<Grid, Group, Reopen, layout::token_quads>> {
  static constexpr bool packed = true, reads_codes = true;
  using format = grouped_format<Grid, Group, Reopen, layout::token_quads>;
  using plane = code_plane<layout::token_quads, Grid::bits>;
  using query = integer_query<Grid>;

  static int piece_lines(int dim) { return lines_of_blocks<plane>(dim); }
  static std::size_t query_bytes(const format&, int dim, int rows) {
    return query::bytes(plane::depth(dim), dim / format::group(dim), rows);
  }
  template <int R>
  static void prepare(const format&, const float* const (&q)[R], int dim, std::byte* to) {
    const int depth = plane::depth(dim), group = format::group(dim), groups = dim / group;
    query out(to, depth, groups, R);
    extent e[R];
    bool narrow = true;
    for (int r = 0; r < R; ++r) {
      e[r] = extent_of(q[r], padded(dim));
      narrow = narrow && fits_narrow<Grid>(e[r], dim);
    }
    out.set_narrow(narrow);
    with_width<Grid>(narrow, [&]<class P>(P) {
      for (int r = 0; r < R; ++r) {
        out.template write<P>(q[r], e[r].largest, depth, group, groups, R, r);
        for (int g = 0; Grid::numbers > 1 && g < groups; ++g) {
          float sum = 0;
          for (int c = g * group; c < (g + 1) * group; ++c) sum += q[r][c];
          const float scale = out.scale[r * simd::lanes];
          simd::store(out.total + (g * R + r) * simd::lanes, simd::set(sum / scale));
        }
      }
    });
  }
  template <int R>
  static void score(const format&, const packed_pieces& k, const std::byte* prepared, float* s) {
    const int depth = plane::depth(k.dim), groups = k.dim / format::group(k.dim);
    const query q(const_cast<std::byte*>(prepared), depth, groups, R);  // only read
    with_width<Grid>(q.narrow, [&]<class P>(P) TERSEKV_INLINED {
      if constexpr (usual_dim / 4 <= simd::written_out && usual_quads <= query::template chunk<P>())
        if (k.dim == usual_dim) return score_pieces<P, R, usual_groups(Group)>(k, q, s);
      score_pieces<P, R, 0>(k, q, s);
    });
  }

 private:
  static constexpr int usual_quads = usual_dim / 4 / usual_groups(Group);  // of a group

  /// Where the scales of a piece lie; rows of its tile.
  struct scales {
    const half* steps;
    const half* lows;
    int rows;
  };

  /// Groups > 0: of a head of usual_dim channels.
  template <class P, int R, int Groups>
  static TERSEKV_INLINE void score_pieces(const packed_pieces& k, const query& q, float* s) {
    constexpr int L = score_vectors, W = simd::lanes;
    const int dim = Groups > 0 ? usual_dim : k.dim, groups = dim / format::group(dim);
    const std::size_t block = plane::block::bytes(plane::depth(dim)), steps_at = format::steps_at(k.rows, dim);
    const std::size_t lows_at = Grid::numbers > 1 ? format::lows_at(k.rows, dim) : 0;
    for (int i = 0; i < k.count; ++i) {
      const packed_piece& piece = k.piece[i];
      const scales at{reinterpret_cast<const half*>(piece.tile + steps_at) + piece.first,
                      reinterpret_cast<const half*>(piece.tile + lows_at) + piece.first, k.rows};
      float* to = s + i * piece_rows;
      prefetch_scales(at.steps, groups, k.rows, piece.ahead);
      if constexpr (Grid::numbers > 1) prefetch_scales(at.lows, groups, k.rows, piece.ahead);
      for_each_lanes<L>(k, i, block, [&](int t, const key_lanes& lanes) TERSEKV_INLINED {
        simd::f32 sum[L][R];
        if constexpr (Groups > 0)
          usual_sums<P, Groups>(sum, q, at, t, lanes);
        else
          sums<P>(sum, q, at, t, lanes, dim);
        each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
          simd::store(to + r * soft_rows + t + l * W, simd::mul(sum[l][r], simd::load(q.scale + r * W)));
        });
      });
    }
  }

  static TERSEKV_INLINE auto start_of_sums([[maybe_unused]] const simd::begin_words* words) {
    if constexpr (query::centred)
      return from_words{words};
    else
      return from_nothing{};
  }

  /// What codes stand for that count as zero, times the sum of the group's queries; First: = instead of +=.
  template <bool First, int R, int L>
  static TERSEKV_INLINE void add_centres(simd::f32 (&sum)[L][R], const simd::f32 (&step)[L], const half* lows,
                                         const float* total) {
    each<L>([&](auto l) TERSEKV_INLINED {
      simd::f32 centre = simd::load(lows + l * simd::lanes);
      if constexpr (query::centred) centre = simd::fma(step[l], simd::set(static_cast<float>(middle<Grid>())), centre);
      each<R>([&](auto r) TERSEKV_INLINED {
        const simd::f32 sum_of_query = simd::load(total + r * simd::lanes);
        sum[l][r] = First ? simd::mul(centre, sum_of_query) : simd::fma(centre, sum_of_query, sum[l][r]);
      });
    });
  }

  template <class P, int Groups, int R, int L>
  static TERSEKV_INLINE void usual_sums(simd::f32 (&sum)[L][R], const query& q, const scales& at, int t,
                                        const key_lanes& lanes) {
    constexpr int W = simd::lanes, depth = plane::depth(usual_dim);
    const std::byte* factors = fresh<std::byte>(q.factors);
    const auto start = start_of_sums(fresh<simd::begin_words>(q.start));
    each<Groups>([&](auto g) TERSEKV_INLINED {
      constexpr int first = g * usual_quads;
      product_sum<P, Groups == 1 ? places<Grid, P, R>() : 1> a[L][R];  // registers hold `sum` too
      add_products<Grid, P, usual_quads>(a, start.after(g * R), lanes, depth, first, usual_quads,
                                         factors + first * P::quad_bytes(R), P::row_bytes(padded_quads(depth)));
      simd::f32 step[L];
      each<L>([&](auto l) TERSEKV_INLINED { step[l] = simd::load(at.steps + g * at.rows + t + l * W); });
      if constexpr (Grid::numbers > 1) add_centres<g == 0>(sum, step, at.lows + g * at.rows + t, q.total + g * R * W);
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
        const simd::f32 x = P::value(a[l][r].whole());
        sum[l][r] = g == 0 && Grid::numbers == 1 ? simd::mul(x, step[l]) : simd::fma(x, step[l], sum[l][r]);
      });
    });
  }

  template <class P, int R, int L>
  static TERSEKV_INLINE void sums(simd::f32 (&sum)[L][R], const query& q, const scales& at, int t,
                                  const key_lanes& lanes, int dim) {
    constexpr int W = simd::lanes, chunk = query::template chunk<P>();
    const int depth = plane::depth(dim), group = format::group(dim), groups = dim / group;
    const factor_rows<P> factors{q.factors, padded_quads(depth)};
    auto start = start_of_sums(q.start);
    each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED { sum[l][r] = simd::zero(); });
    const auto add_group = [&]<int Quads>(std::integral_constant<int, Quads>, int g, int first,
                                          int last) TERSEKV_INLINED {
      simd::f32 step[L];
      each<L>([&](auto l) TERSEKV_INLINED { step[l] = simd::load(at.steps + g * at.rows + t + l * W); });
      if constexpr (Grid::numbers > 1) add_centres<false>(sum, step, at.lows + g * at.rows + t, q.total + g * R * W);
      add_chunks<Grid, P, chunk, Quads>(sum, lanes, depth, first, last, factors, first, start,
                                        [&](auto l, auto) TERSEKV_INLINED { return step[l]; });
    };
    constexpr int quads = Group / 4;  // of a group, where that is a constant, and one chunk
    if constexpr (Group > 0 && quads <= chunk) {
      if (group == Group) {
        for (int g = 0; g < groups; ++g) add_group(std::integral_constant<int, quads>{}, g, g * quads, (g + 1) * quads);
      } else {
        add_group(std::integral_constant<int, 0>{}, 0, 0, depth / 4);
      }
    } else {
      for (int g = 0; g < groups; ++g)
        add_group(std::integral_constant<int, known_chunk(chunk)>{}, g, g * group / 4,
                  g + 1 == groups ? depth / 4 : (g + 1) * group / 4);
    }
  }
};

// ------------------------------------------------------------------------------------------------- spans of rows

template <class Grid, int Span, class Reopen>
requires(Span % piece_rows == 0) struct key_kernel<channel_format<Grid, Span, Reopen, layout::token_quads>>
    : queries_as_numbers {
  static constexpr bool packed = true, reads_codes = true;
  using format = channel_format<Grid, Span, Reopen, layout::token_quads>;
  using plane = code_plane<layout::token_quads, Grid::bits>;

  static int piece_lines(int dim) { return lines_of_blocks<plane>(dim); }
  template <int R>
  static void score(const format&, const packed_pieces& k, const std::byte* query, float* s) {
    static_assert(Grid::numbers == 2);
    const int depth = plane::depth(k.dim);
    const std::size_t block = plane::block::bytes(depth);
    const float* q = reinterpret_cast<const float*>(query);
    for (int i = 0, last; i < k.count; i = last) {  // pieces i .. last lie in one span
      const packed_piece& piece = k.piece[i];
      const int span = piece.first / Span;
      for (last = i + 1; last < k.count && k.piece[last].tile == piece.tile && k.piece[last].first / Span == span;)
        ++last;
      const half* steps = reinterpret_cast<const half*>(piece.tile + format::steps_at(k.rows, k.dim)) + span * k.dim;
      const half* lows = reinterpret_cast<const half*>(piece.tile + format::lows_at(k.rows, k.dim)) + span * k.dim;
      for (const half* scales : {steps, lows}) prefetch_scales(scales, (k.dim + 31) / 32, 32, piece.ahead);
      for (int c = 0; c < k.dim; c += folded) {
        folded_query<R> f;
        f.fold(q + c, padded(k.dim), steps + c, lows + c, std::min(folded, k.dim - c));
        const int quads = (std::min(depth, c + folded) - c) / 4;
        with_width<Grid>(f.narrow, [&]<class P>(P) TERSEKV_INLINED {
          f.template round<P>(quads);
          for (int n = i; n < last; ++n) add_scores<P, R>(k, n, block, depth, c / 4, quads, f, s + n * piece_rows);
        });
      }
    }
  }

 private:
  static constexpr int folded = 128;  // channels that are folded at a time
  /// Quads of one sum of products: as many as any factors allow, or all where there are two places: round() sees to it.
  template <class P>
  static constexpr int chunk = places<Grid, P, 1>() > 1 ? folded / 4 : integer_query<Grid>::template any_chunk<P>();

  /// The queries times the steps of a span's channels.
  template <int R>
  struct folded_query {
    alignas(64) float x[R][folded];
    float largest[R], length[R];
    float base[R];  // <q, centre>
    float scale[R];
    bool narrow;
    simd::begin_words start[folded / 32 * R];
    alignas(64) std::byte factors[factor_bytes(folded / 4, R)];

    TERSEKV_INLINE void fold(const float* q, int stride, const half* steps, const half* lows, int n) {
      constexpr int W = simd::lanes;
      simd::f32 most[R], squares[R], centred[R];
      each<R>([&](auto r) TERSEKV_INLINED { most[r] = squares[r] = centred[r] = simd::zero(); });
      for (int c = 0; c < round_up_to(n, 32); c += W) {
        const int have = std::clamp(n - c, 0, W);
        const simd::f32 step = have == W ? simd::load(steps + c) : simd::load_part(steps + c, have);
        const simd::f32 low = have == W ? simd::load(lows + c) : simd::load_part(lows + c, have);
        const simd::f32 centre = simd::fma(step, simd::set(static_cast<float>(middle<Grid>())), low);
        each<R>([&](auto r) TERSEKV_INLINED {
          const simd::f32 y = simd::load(q + r * stride + c), z = simd::mul(y, step);
          simd::store(x[r] + c, z);
          most[r] = simd::larger_size(most[r], z);
          squares[r] = simd::fma(z, z, squares[r]);
          centred[r] = simd::fma(y, centre, centred[r]);
        });
      }
      simd::largests(most, largest);
      simd::sums(squares, length);
      simd::sums(centred, base);
      narrow = true;
      for (int r = 0; r < R; ++r) {
        length[r] = std::sqrt(length[r]);
        narrow = narrow && fits_narrow<Grid>({largest[r], length[r]}, n);
      }
    }
    /// Whether sums begin with nothing, and base says what centres codes.
    template <class P>
    static constexpr bool centres_base = writes_four<P>&& R % 4 == 0;
    template <class P>
    TERSEKV_INLINE void round(int quads) {
      if constexpr (centres_base<P>)
        round_together<P>(quads);
      else
        round_rows<P>(quads);
    }
    template <class P>
    TERSEKV_INLINE void round_together(int quads) {
      using V = simd::quad;
      alignas(64) float inverse[R], sum[R];
      for (int r = 0; r < R; r += V::lanes) {
        const auto by = rounding<P>::template scales<V>(V::load(largest + r));
        V::store(scale + r, by);
        V::store(inverse + r, V::div(V::set(1), by));
      }
      settle(inverse);
      written_rows<P, R> rows;
      const auto times = [&](int r) TERSEKV_INLINED { return simd::set(inverse[r]); };
      const auto write = [&](auto begins, int q) TERSEKV_INLINED {
        const auto number = [&](int r, int i) TERSEKV_INLINED { return simd::load(x[r] + 4 * q + i * simd::lanes); };
        rows.write(begins, {factors, folded / 4}, q, number, times);
      };
      write(std::true_type{}, 0);
      for (int q = 8; q < quads; q += 8) write(std::false_type{}, q);
      lane_joins<sum_of_lanes, 1, R> sums(sum);
      rows.template store<0>(sums);
      for (int r = 0; r < R; r += V::lanes) {
        const auto centre = V::mul(V::load(sum + r), V::set(static_cast<float>(middle<Grid>())));
        V::store(base + r, V::sub(V::load(base + r), V::mul(centre, V::load(scale + r))));
      }
    }
    template <class P>
    TERSEKV_INLINE void round_rows(int quads) {
      for (int r = 0; r < R; ++r) {
        float most = largest[r];
        if constexpr (places<Grid, P, 1>() > 1)
          most = largest_for_sums<P, places<Grid, P, 1>(), chunk<P>>({most, length[r]},
                                                                     codes_of_sum<Grid, P>(true).largest);
        const rounding<P> by(most);
        scale[r] = by.scale;
        for (int first = 0, i = r; first < quads; first += chunk<P>, i += R)
          start[i] = P::centred(factor_rows<P>{factors, folded / 4}.round(
                                    x[r] + 4 * first, first, std::min(chunk<P>, quads - first),
                                    [&](int) TERSEKV_INLINED { return simd::set(by.inverse); }, R, r),
                                middle<Grid>());
      }
    }
  };

  template <class P, int R>
  static TERSEKV_INLINE void add_scores(const packed_pieces& k, int i, std::size_t block, int depth, int quad,
                                        int quads, const folded_query<R>& q, float* s) {
    constexpr int L = score_vectors, W = simd::lanes;
    for_each_lanes<L>(k, i, block, [&](int t, const key_lanes& lanes) TERSEKV_INLINED {
      simd::f32 sum[L][R];
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED {
        sum[l][r] = simd::set(q.base[r]);
        if (quad > 0) sum[l][r] = simd::add(sum[l][r], simd::load(s + r * soft_rows + t + l * W));
      });
      auto start = [&] {
        if constexpr (folded_query<R>::template centres_base<P>)
          return from_nothing{};
        else
          return from_words{q.start};
      }();
      const factor_rows<P> factors{const_cast<std::byte*>(q.factors), folded / 4};
      add_chunks<Grid, P, chunk<P>, known_chunk(chunk<P>)>(sum, lanes, depth, quad, quad + quads, factors, 0, start,
                                                           [&](auto, auto r)
                                                               TERSEKV_INLINED { return simd::set(q.scale[r]); });
      each_sum<L, R>([&](auto l, auto r) TERSEKV_INLINED { simd::store(s + r * soft_rows + t + l * W, sum[l][r]); });
    });
  }
};

// --------------------------------------------------------------------------------------------------- transformed

template <class Transform, class Format>
struct key_kernel<through_format<Transform, Format, true>> {
  using format = through_format<Transform, Format, true>;
  using inner = key_kernel<Format>;
  static constexpr bool packed = inner::packed, reads_codes = inner::reads_codes;
  static int piece_lines(int dim) { return inner::piece_lines(dim); }
  static std::size_t query_bytes(const format& f, int dim, int rows) { return inner::query_bytes(f.inner, dim, rows); }
  template <int R>
  static void prepare(const format& f, const float* const (&q)[R], int dim, std::byte* to) {
    alignas(64) float turned[R][longest_row];
    const float* rows[R];
    for (int r = 0; r < R; ++r) {
      std::copy_n(q[r], padded(dim), turned[r]);
      f.turn.query(turned[r], dim);
      rows[r] = turned[r];
    }
    inner::template prepare<R>(f.inner, rows, dim, to);
  }
  template <int R>
  static void score(const format& f, const packed_pieces& k, const std::byte* query, float* s) {
    inner::template score<R>(f.inner, k, query, s);
  }
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
