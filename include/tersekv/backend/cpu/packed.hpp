// SPDX-License-Identifier: Apache-2.0
// Attention of up to 8 query rows over packed pages and rows of numbers, as partial states that merge.
//
// A state is (maximum, sum, undivided output) per query row, logits in units of log 2; the empty one is (-inf, 0, 0).
// States of disjoint rows merge in any number of parts; whoever splits by row index gets the same bits for any number
// of threads. Rows are taken a tile (4 pieces of 32 rows) at a time: scores, running softmax, outputs.
//
// Read before: key_kernel.hpp, value_kernel.hpp, pages_ahead.hpp.
#pragma once
#include <limits>

#include <tersekv/backend/cpu/pages_ahead.hpp>
#include <tersekv/detail/function_ref.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

inline constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;
inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Up to 32 rows that follow each other: of a page, or of an array of numbers.
struct row_piece {
  const std::byte* tile = nullptr;  // the page; null for numbers
  int first = 0;                    // row of the page
  int count = 0;                    // rows that exist
  const int* position = nullptr;    // [count] -1 = dead
  const float* bias = nullptr;      // [count] added to the logits; null = none
  int index = 0;                    // of the first row, among the head's rows
};

/// Positions that a query row sees.
struct sight {
  int oldest = 0, newest = 0;
  friend bool operator==(const sight&, const sight&) = default;
};
/// From position `own`; window: 0 = all that is older.
inline sight sight_from(int own, int window, bool sees_self) {
  return {window > 0 ? std::max(0, own - window + 1) : 0, sees_self ? own : own - 1};
}

/// Partial attention of R query rows; out is [R, stride].
struct partial_state {
  float* maximum;  // [R] in units of log 2
  float* sum;      // [R]
  float* out;
  int stride;

  void clear(int rows) const {
    std::fill_n(maximum, rows, minus_infinity);
    std::fill_n(sum, rows, 0.0f);
    std::fill_n(out, static_cast<std::ptrdiff_t>(rows) * stride, 0.0f);
  }
  partial_state from(int r) const {
    return {maximum + r, sum + r, out + static_cast<std::ptrdiff_t>(r) * stride, stride};
  }
};

/// Weights of a tile's rows, as the running softmax of one query row has them.
struct alignas(64) tile_weights {
  float of[soft_rows];
};
/// Where the weights of tiles stay for policies: relative to the tile's maximum, zero where hidden.
struct weight_record {
  struct tile_rows {
    int index[tile_pieces], count[tile_pieces];  // of every piece
  };
  tile_weights* weights = nullptr;  // [tiles, stride]; null = not wanted
  float* maximum = nullptr;         // [tiles, stride]
  tile_rows* rows = nullptr;        // [tiles]
  int stride = 0;                   // query rows

  weight_record from(int tile, int query = 0) const {
    if (!weights) return {};
    const std::ptrdiff_t i = static_cast<std::ptrdiff_t>(tile) * stride + query;
    return {weights + i, maximum + i, rows + tile, stride};
  }
  /// Of the first tile: n pieces.
  void name_rows(const row_piece* piece, int n) const {
    if (!weights) return;
    for (int k = 0; k < tile_pieces; ++k) {
      rows->index[k] = k < n ? piece[k].index : 0;
      rows->count[k] = k < n ? piece[k].count : 0;
    }
  }
};

/// What R query rows make of a tile's rows: in the record, or, where none is wanted, in memory of the caller's.
template <int R>
struct tile_scores {
  float* s;        // [R, soft_rows] scores, then weights
  float* maximum;  // [R] that weights are relative to

  struct memory {
    alignas(64) float s[R * soft_rows];
    float maximum[R];
  };
  tile_scores() = default;
  TERSEKV_INLINE tile_scores(const weight_record& record, memory& own)
      : s(record.weights ? record.weights->of : own.s), maximum(record.weights ? record.maximum : own.maximum) {}
};

inline float exp2_of(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }

/// Rows of a tile that a row of the query does not see: bits of rows, per piece and row of the query.
template <int R>
struct hidden_rows {
  std::uint32_t bits[tile_pieces][R];
};

/// s[r] [pieces * 32] -> weights relative to the running maximum, zero where hidden; the state's sum and output follow.
/// hidden: null = no row is.
template <class Powers, int R>
TERSEKV_INLINE void soften(float* s, int pieces, const hidden_rows<R>* hidden, const partial_state& state) {
  constexpr int W = simd::lanes, vectors = piece_rows / W;
  for (int r = 0; r < R; ++r) {
    float* row = s + r * soft_rows;
    simd::f32 most = simd::load(row);
    for (int i = 0; i < pieces; ++i)
      each<vectors>([&](auto k) TERSEKV_INLINED { most = simd::max(most, simd::load(row + i * piece_rows + k * W)); });
    const float top = simd::largest(most), before = state.maximum[r];
    if (top > before) {
      const float shrink = before == minus_infinity ? 0.0f : exp2_of(before - top);
      state.sum[r] *= shrink;
      float* out = state.out + static_cast<std::ptrdiff_t>(r) * state.stride;
      for (int c = 0; c < state.stride; c += W) simd::store(out + c, simd::mul(simd::load(out + c), simd::set(shrink)));
      state.maximum[r] = top;
    }
    const simd::f32 shift = simd::set(state.maximum[r] == minus_infinity ? 0.0f : -state.maximum[r]);
    simd::f32 sum = simd::zero();
    for (int i = 0; i < pieces; ++i)
      each<vectors>([&](auto k) TERSEKV_INLINED {
        float* at = row + i * piece_rows + k * W;
        const simd::f32 p = simd::exp2<Powers>(simd::add(simd::load(at), shift));
        simd::store(at, p);
        sum = simd::add(sum, p);
      });
    if (hidden) {
      sum = simd::zero();
      for (int i = 0; i < pieces; ++i)
        each<vectors>([&](auto k) TERSEKV_INLINED {
          float* at = row + i * piece_rows + k * W;
          const simd::f32 p = simd::select(hidden->bits[i][r] >> (k * W), simd::zero(), simd::load(at));
          simd::store(at, p);
          sum = simd::add(sum, p);
        });
    }
    state.sum[r] += simd::sum(sum);
  }
}

/// What all rows of the query see.
template <int R>
TERSEKV_INLINE sight common(const sight* see) {
  sight all = see[0];
  for (int r = 1; r < R; ++r) all = {std::max(all.oldest, see[r].oldest), std::min(all.newest, see[r].newest)};
  return all;
}
/// Whether all rows of the tile are inside.
TERSEKV_INLINE bool sees_all(const row_piece* piece, int n, const sight& all) {
  for (int k = 0; k < n; ++k)
    if (piece[k].count < piece_rows || !simd::all_between<piece_rows>(piece[k].position, all.oldest, all.newest))
      return false;
  return true;
}

/// Scores of rows that are not seen become -inf.
template <int R>
TERSEKV_APART void hide_rows(float* s, const row_piece* piece, int n, const sight* see, hidden_rows<R>& hidden) {
  for (int k = 0; k < n; ++k) {
    const int* position = piece[k].position;
    int few[piece_rows];
    if (piece[k].count < piece_rows) {
      std::fill(std::copy_n(position, piece[k].count, few), few + piece_rows, -1);
      position = few;
    }
    for (int r = 0; r < R; ++r) {
      std::uint32_t& bits = hidden.bits[k][r];
      if (r > 0 && see[r] == see[r - 1]) {
        bits = hidden.bits[k][r - 1];
      } else {
        std::uint32_t seen = 0;
        for (int t = 0; t < piece_rows; t += simd::lanes)
          seen |= simd::between(position + t, see[r].oldest, see[r].newest) << t;
        bits = ~seen;
      }
      float* row = s + r * soft_rows + k * piece_rows;
      for (int t = 0; bits != 0 && t < piece_rows; t += simd::lanes)
        simd::store(row + t, simd::select(bits >> t, simd::set(minus_infinity), simd::load(row + t)));
    }
  }
}

/// Between scores and outputs of a tile: biases, hidden rows, the running softmax. all: what all rows of the query see.
template <class Powers, int R>
TERSEKV_INLINE void soften_tile(const tile_scores<R>& scores, const row_piece* piece, int n, const sight* see,
                                const sight& all, const partial_state& state) {
  float* s = scores.s;
  if (piece->bias)  // then all of them have
    for (int k = 0; k < n; ++k)
      for (int t = 0; t < piece[k].count; ++t)
        for (int r = 0; r < R; ++r) s[r * soft_rows + k * piece_rows + t] += piece[k].bias[t] * log2_e;
  if (sees_all(piece, n, all)) {
    soften<Powers, R>(s, n, nullptr, state);
  } else {
    hidden_rows<R> hidden;
    hide_rows<R>(s, piece, n, see, hidden);
    soften<Powers, R>(s, n, &hidden, state);
  }
  std::copy_n(state.maximum, R, scores.maximum);
}

/// Names the rows of `count` pieces from number `first` on. By reference, so that kernels are compiled once per page
/// format, not once per recipe.
using piece_source = function_ref<void(int first, int count, row_piece* to)>;

/// Whether a kernel of its own reads codes of up to 4 bits: it may err by an eighth of what they do.
template <class Kernel, class Format>
constexpr bool reads_few_bits() {
  if constexpr (!Kernel::packed || !simd::rounds_narrow)
    return false;
  else if constexpr (requires { Format::grid::bits; })
    return Format::grid::bits <= 4;
  else if constexpr (requires(Format f) { f.inner; })
    return reads_few_bits<Kernel, decltype(Format::inner)>();
  else
    return false;
}

/// Weights of a tile's rows become relative to the state's maximum.
template <int R>
void rescale(const tile_scores<R>& t, int rows, const float* maximum) {
  for (int r = 0; r < R; ++r) {
    if (t.maximum[r] == maximum[r]) continue;  // also where nothing was seen: both are -inf
    const simd::f32 factor = simd::set(exp2_of(t.maximum[r] - maximum[r]));
    for (float* at = t.s + r * soft_rows; at < t.s + r * soft_rows + rows; at += simd::lanes)
      simd::store(at, simd::mul(simd::load(at), factor));
    t.maximum[r] = maximum[r];
  }
}

/// R query rows over pieces first .. last of packed pages. Page = page_format<...>; `query` was prepared by its
/// key_kernel; see [R]. Pieces from last to before `end` are asked for, as whoever reads these goes on there.
template <int R, class Page>
void attend_pieces(const Page& page, const std::byte* query, int first, int last, int end, piece_source name_pieces,
                   const sight* see, const partial_state& state, const weight_record& record) {
  using keys = key_kernel<typename Page::key_format>;
  using values = value_kernel<typename Page::value_format>;
  constexpr bool coarse =
      reads_few_bits<keys, typename Page::key_format>() || reads_few_bits<values, typename Page::value_format>();
  using powers = std::conditional_t<coarse, exp2_coarse, exp2_precise>;
  constexpr int together = values::first_tiles;
  struct tile {
    packed_piece where[tile_pieces];
    int count;  // pieces
    tile_scores<R> scores;
  };
  tile tiles[together];
  typename tile_scores<R>::memory own[together];
  const sight all = common<R>(see);
  row_piece pieces[2][tile_pieces], *piece = pieces[0], *next = pieces[1];
  const auto count_from = [&](int i) { return std::clamp(last - i, 0, tile_pieces); };
  const auto count_ahead = [&](int i) { return std::clamp(end - i, 0, tile_pieces); };
  name_pieces(first, count_from(first), piece);
  pages_ahead<Page, row_piece> ahead(page);
  ahead.ask_first(piece, count_from(first));
  for (int i = first, number = 0; i < last;) {  // the first tiles together, the others one by one
    const bool alone = together == 1 || number > 0;
    int count = 0;
    do {
      const int at = together == 1 ? 0 : count++;  // a constant: 16 bits take 2 % fewer instructions
      tile& t = tiles[at];
      const weight_record to = record.from(number++);
      t.scores = {to, own[at]};
      const int n = t.count = std::min(tile_pieces, last - i), later = count_ahead(i + tile_pieces);
      name_pieces(i + tile_pieces, later, next);
      ahead.name_keys(t.where, piece, n, next, end - i);
      ahead.ask_addresses(name_pieces, i + 2 * tile_pieces, std::min(i + 2 * tile_pieces + n, end));
      ahead.begin_keys(alone, n, next, later);
      keys::template score<R>(page.keys, {t.where, n, Page::rows, page.key_dim, ahead.lines()}, query, t.scores.s);
      ahead.finish_keys(alone);
      soften_tile<powers, R>(t.scores, piece, n, see, all, state);
      to.name_rows(piece, n);
      ahead.name_values(t.where, piece, n, next, end - i);
      if (i == first) ahead.ask_first_values(piece, n);
      std::swap(piece, next);
      i += tile_pieces;
    } while (number < together && i < last);
    for (tile *begin = tiles, *past = tiles + (together == 1 ? 1 : count), *t = begin; t < past; ++t) {
      if constexpr (together > 1)
        if (count > 1 && !std::equal(state.maximum, state.maximum + R, t->scores.maximum))
          rescale(t->scores, t->count * piece_rows, state.maximum);
      const bool mixed = t + 1 < past;
      ahead.begin_values(alone, t->count, mixed ? t[1].where : nullptr, piece, mixed ? t[1].count : count_ahead(i));
      values::template mix<R>(page.values, {t->where, t->count, Page::rows, page.value_dim, ahead.lines()}, t->scores.s,
                              state.sum, state.out, state.stride);
      ahead.finish_values();
    }
  }
}

/// Rows that are stored as numbers: keys [count, key_dim], values [count, value_dim]; columns as in row_piece.
template <class T>
struct number_rows {
  const T* keys;
  const T* values;
  int count, key_dim, value_dim;
  const int* position;
  const float* bias;
  int index;
};

/// R query rows over rows of numbers; q[r] is readable, and zero, up to padded(key_dim).
template <int R, class T>
void attend_numbers(const float* const (&q)[R], const number_rows<T>& rows, const sight* see,
                    const partial_state& state, const weight_record& record) {
  typename tile_scores<R>::memory own;
  const sight all = common<R>(see);
  for (int t = 0; t < rows.count; t += soft_rows) {
    const weight_record to = record.from(t / soft_rows);
    const tile_scores<R> scores(to, own);
    float* s = scores.s;
    const int count = std::min(soft_rows, rows.count - t), n = (count + piece_rows - 1) / piece_rows;
    row_piece piece[tile_pieces];
    for (int k = 0; k < n; ++k) {
      const int first = t + k * piece_rows;
      piece[k].count = std::min(piece_rows, rows.count - first);
      piece[k].position = rows.position + first;
      piece[k].bias = rows.bias ? rows.bias + first : nullptr;
      piece[k].index = rows.index + first;
    }
    score_numbers<T, R>(rows.keys + static_cast<std::ptrdiff_t>(t) * rows.key_dim, count, rows.key_dim, no_lines{}, q,
                        s, soft_rows);
    for (int r = 0; r < R; ++r) std::fill_n(s + r * soft_rows + count, n * piece_rows - count, minus_infinity);
    soften_tile<exp2_precise, R>(scores, piece, n, see, all, state);
    to.name_rows(piece, n);
    mix_numbers<T, R>(rows.values + static_cast<std::ptrdiff_t>(t) * rows.value_dim, count, rows.value_dim, no_lines{},
                      s, soft_rows, state.out, state.stride);
  }
}

/// Adds the state of other rows, row by row.
TERSEKV_INLINE void merge(const partial_state& to, const partial_state& from, int rows) {
  for (int r = 0; r < rows; ++r) {
    if (from.maximum[r] == minus_infinity) continue;
    const float top = std::max(to.maximum[r], from.maximum[r]);
    const float mine = to.maximum[r] == minus_infinity ? 0.0f : exp2_of(to.maximum[r] - top);
    const float other = exp2_of(from.maximum[r] - top);
    to.maximum[r] = top;
    to.sum[r] = to.sum[r] * mine + from.sum[r] * other;
    float* out = to.out + static_cast<std::ptrdiff_t>(r) * to.stride;
    const float* add = from.out + static_cast<std::ptrdiff_t>(r) * from.stride;
    for (int c = 0; c < to.stride; c += simd::lanes)
      simd::store(out + c,
                  simd::fma(simd::load(add + c), simd::set(other), simd::mul(simd::load(out + c), simd::set(mine))));
  }
}

/// mass[t] = or += sum over r of factor[r] * p[r][t].
template <int R>
TERSEKV_INLINE void add_weights(const tile_weights* p, int first, int count, const float* factor, bool add,
                                float* mass) {
  constexpr int W = simd::lanes;
  int t = 0;
  for (; t + W <= count; t += W) {
    simd::f32 sum = add ? simd::load(mass + t) : simd::set(0.0f);
    each<R>([&](auto r)
                TERSEKV_INLINED { sum = simd::fma(simd::set(factor[r]), simd::load(p[r].of + first + t), sum); });
    simd::store(mass + t, sum);
  }
  for (; t < count; ++t) {
    if (!add) mass[t] = 0;
    for (int r = 0; r < R; ++r) mass[t] += factor[r] * p[r].of[first + t];
  }
}

/// mass[row] = weight times the attention that `count` query rows of the record pay to it; log2_sum [count]. Rows that
/// are not in the record are left as they are.
inline void store_mass(const weight_record& record, int tiles, int count, const float* log2_sum, float weight,
                       float* mass) {
  constexpr int together = 4;
  for (int r = 0, rows = 0; r < count; r += rows) {
    rows = count - r < together ? 1 : together;
    float known[together], factor[together] = {};
    std::fill_n(known, together, minus_infinity);
    for (int tile = 0; tile < tiles; ++tile) {
      const weight_record from = record.from(tile, r);
      for (int i = 0; i < rows; ++i)  // maxima seldom change
        if (from.maximum[i] != known[i]) {
          known[i] = from.maximum[i];
          factor[i] = known[i] == minus_infinity ? 0.0f : weight * exp2_of(known[i] - log2_sum[r + i]);
        }
      for (int k = 0; k < tile_pieces; ++k) {
        const int n = from.rows->count[k];
        float* to = mass + from.rows->index[k];
        if (rows == together)
          add_weights<together>(from.weights, k * piece_rows, n, factor, r > 0, to);
        else
          add_weights<1>(from.weights, k * piece_rows, n, factor, r > 0, to);
      }
    }
  }
}

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
