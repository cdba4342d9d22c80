// SPDX-License-Identifier: Apache-2.0
// Attention of many queries (prompts): a block of threads takes 64 query rows of one KV head and meets the rows of the
// head tile by tile. Packed rows are decoded once per block, into halves; products are tensor cores', sums are floats.
//
// Read before: prompt_tiles.cuh.
#pragma once
#include <tersekv/backend/cuda/prompt_tiles.cuh>

namespace tersekv::detail {

template <class Page>
struct prompt_arguments {
  Page page;
  attend_shape shape;
  const device_query* batch;     // [sequences]
  const device_window* windows;  // [sequences]; null = the queries are those of the steps
};

/// Softmax of a lane's two query rows, in units of log 2, and its part of the output.
template <int D>
struct prompt_state {
  float out[D / 8][4];
  float maximum[2] = {minus_infinite, minus_infinite}, sum[2] = {0, 0};
};

/// The products of a tile with its values. s: weights [16, Keys].
template <int D, int Keys>
__device__ __forceinline__ void add_values(float (&out)[D / 8][4], const float (&s)[Keys / 8][4],
                                           const std::uint16_t* values, int value_dim) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  TERSEKV_UNROLL
  for (int k = 0; k < Keys / 16; ++k) {
    const std::uint32_t a[4] = {half2_pack(s[2 * k][0], s[2 * k][1]), half2_pack(s[2 * k][2], s[2 * k][3]),
                                half2_pack(s[2 * k + 1][0], s[2 * k + 1][1]),
                                half2_pack(s[2 * k + 1][2], s[2 * k + 1][3])};
    TERSEKV_UNROLL
    for (int c = 0; c < D; c += 16) {
      if (c >= value_dim) break;
      std::uint32_t b[4];
      load_blocks(b, values + (c + lane / 16 * 8 + lane % 8) * (Keys + 8) + 16 * k + lane / 8 % 2 * 8);
      mma_half(out[c / 8], a, {b[0], b[1]});
      mma_half(out[c / 8 + 1], a, {b[2], b[3]});
    }
  }
}

/// What a query sees of a tile; null where that is all of it.
struct tile_mask {
  const int* position;  // [keys] -1 = nobody sees it
  const float* bias;    // [keys] in units of log 2
};

/// Products of a tile to logits, -inf where a query does not see a row.
template <int Keys>
__device__ __forceinline__ void apply_mask(float (&s)[Keys / 8][4], const float (&factor)[2],
                                           const sight_range (&sight)[2], const tile_mask& mask) {
  const int column = static_cast<int>(threadIdx.x % 4) * 2;
  TERSEKV_UNROLL
  for (int j = 0; j < Keys / 8; ++j) {
    TERSEKV_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int at = 8 * j + column + e % 2;
      const float x = s[j][e] * factor[e / 2] + (mask.bias ? mask.bias[at] : 0.0f);
      s[j][e] = !mask.position || sight[e / 2].sees(mask.position[at]) ? x : minus_infinite;
    }
  }
}

/// Logits of a tile, in units of 1 / factor, to weights; the state moves to the new maximum.
template <int D, int Keys>
__device__ __forceinline__ void soften(float (&s)[Keys / 8][4], prompt_state<D>& state, const float (&factor)[2]) {
  float top[2] = {minus_infinite, minus_infinite}, base[2], shrink[2];
  TERSEKV_UNROLL
  for (int j = 0; j < Keys / 8; ++j) {
    TERSEKV_UNROLL
    for (int e = 0; e < 4; ++e) top[e / 2] = s[j][e] > top[e / 2] ? s[j][e] : top[e / 2];
  }
  TERSEKV_UNROLL
  for (int i = 0; i < 2; ++i) {
    top[i] = factor[i] * warp_reduce(
                             top[i], [](float x, float y) { return x > y ? x : y; }, 2, 1);
    const float maximum = top[i] > state.maximum[i] ? top[i] : state.maximum[i];
    base[i] = maximum == minus_infinite ? 0.0f : maximum;
    shrink[i] = exp2_fast(state.maximum[i] - base[i]);
    state.maximum[i] = maximum;
    state.sum[i] *= shrink[i];
  }
  TERSEKV_UNROLL
  for (int j = 0; j < Keys / 8; ++j) {
    TERSEKV_UNROLL
    for (int e = 0; e < 4; ++e) {
      s[j][e] = exp2_fast(s[j][e] * factor[e / 2] - base[e / 2]);
      state.sum[e / 2] += s[j][e];
    }
  }
  if (!__any_sync(all_lanes, shrink[0] != 1.0f || shrink[1] != 1.0f)) return;
  TERSEKV_UNROLL
  for (int c = 0; c < D / 8; ++c) {
    TERSEKV_UNROLL
    for (int e = 0; e < 4; ++e) state.out[c][e] *= shrink[e / 2];
  }
}

/// Two neighbouring numbers that fit into 16 bits, or as many of them as `count` says.
__device__ __forceinline__ void write_pair(const device_array& a, std::int64_t at, float x, float y, int count) {
  if (count <= 0) return;
  if (a.type == element::f32) {
    auto* to = static_cast<float*>(a.data) + at;
    store(to, x);
    if (count > 1) store(to + 1, y);
  } else {
    auto* to = static_cast<std::uint16_t*>(a.data) + at;
    const std::uint32_t two = a.type == element::f16 ? half2_pack(x, y) : bfloat2_pack(x, y);
    store(to, static_cast<std::uint16_t>(two));
    if (count > 1) store(to + 1, static_cast<std::uint16_t>(two >> 16));
  }
}

/// A block of queries against the rows of one KV head.
template <class Page, int D>
struct prompt_block {
  using shape = prompt_shape<Page, D>;
  using layout = shared_layout<typename shape::queries, typename shape::key_tile, typename shape::value_tile,
                               typename shape::turning, typename shape::positions, typename shape::biases>;
  const attend_shape& attend;
  const step_view& step;
  const head_reader<Page>& rows;
  const tile_loader<Page, D>& tiles;
  sight_range first, last;  // of the block's queries
  sight_range sight[2];     // of the lane's
  warp_queries queries;
  prompt_state<D> state;
  int* position = layout::template get<4>();
  float* bias = layout::template get<5>();
  const bool wants_output;

  template <row_part P>
  __device__ void attend_part() {
    int count = rows.template count<P>();
    if constexpr (P == row_part::own) {
      const int seen = last.newest + 1 - *step.query.length;
      count = seen < count ? seen : count;
    }
    for (int row = 0; row < count; row += shape::keys) attend_tile<P>(row);
  }

  /// Whether all queries see all rows of the tile.
  template <row_part P>
  __device__ bool plain(int row) const {
    if (attend.window > 0 || tiles.template here<P>(row) < shape::keys) return false;
    if constexpr (P == row_part::own) return rows.template position<P>(row + shape::keys - 1) <= first.newest;
    return P != row_part::packed || (rows.head.dead == 0 && !rows.chosen.pages);
  }

  template <row_part P>
  __device__ void attend_tile(int row) {
    const bool masked = !plain<P>(row), biased = P != row_part::own && rows.head.bias;
    const int here = tiles.template here<P>(row), lane = static_cast<int>(threadIdx.x % 32);
    if (masked) {
      bool seen = false;  // by some query; every warp finds the same
      for (int i = lane; i < here; i += 32) {
        const int p = rows.template position<P>(row + i);
        seen = seen || (p >= first.oldest && p <= last.newest);
      }
      if (!__any_sync(all_lanes, seen)) return;
    }
    __syncthreads();  // all warps are done with the tile before
    tiles.template load_keys<P>(row);
    if (wants_output) tiles.template load_values<P>(row);
    for (int i = static_cast<int>(threadIdx.x); i < shape::keys; i += shape::threads) {
      if (masked) position[i] = i < here ? rows.template position<P>(row + i) : -1;
      if (biased)
        bias[i] =
            i < here && rows.template position<P>(row + i) >= 0 ? rows.template bias<P>(row + i) * log2_of_e : 0.0f;
    }
    __syncthreads();
    float s[shape::keys / 8][4];
    multiply_keys<D, shape::keys>(s, queries.q, tiles.keys, rows.page.key_dim);
    if (masked || biased) {
      apply_mask<shape::keys>(s, queries.factor, sight, {masked ? position : nullptr, biased ? bias : nullptr});
      soften<D, shape::keys>(s, state, {1.0f, 1.0f});
    } else {
      soften<D, shape::keys>(s, state, queries.factor);
    }
    if (wants_output) add_values<D, shape::keys>(state.out, s, tiles.values, rows.page.value_dim);
  }

  /// Turns the output back into the basis of the other rows, row by row. x: the warp's, [D].
  __device__ void turn_outputs(float* x) {
    const int lane = static_cast<int>(threadIdx.x % 32), column = lane % 4 * 2;
    TERSEKV_UNROLL
    for (int i = 0; i < 2; ++i) {
      for (int r = 0; r < 8; ++r) {
        __syncwarp();
        if (lane / 4 == r) {
          TERSEKV_UNROLL
          for (int c = 0; c < D / 8; ++c)
            x[8 * c + column] = state.out[c][2 * i], x[8 * c + column + 1] = state.out[c][2 * i + 1];
        }
        __syncwarp();
        turn_output(rows.page.values.turn, x, rows.page.value_dim);
        if (lane / 4 == r) {
          TERSEKV_UNROLL
          for (int c = 0; c < D / 8; ++c)
            state.out[c][2 * i] = x[8 * c + column], state.out[c][2 * i + 1] = x[8 * c + column + 1];
        }
      }
    }
  }

  /// Divides and writes. first_row: of the warp.
  __device__ void finish(int first_row) {
    const int lane = static_cast<int>(threadIdx.x % 32), query_heads = attend.kv_heads * attend.group;
    TERSEKV_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + lane / 4 + 8 * i, token = row / attend.group;
      const int head = rows.kv_head * attend.group + row % attend.group;
      const float sum = warp_reduce(
          state.sum[i], [](float x, float y) { return x + y; }, 2, 1);
      if (token >= step.query.n) continue;
      if (lane % 4 == 0 && step.query.log_sum_exp)
        step.query.log_sum_exp[token * query_heads + head] =
            sum > 0 ? (state.maximum[i] + log2f(sum)) * log_of_2 : minus_infinite;
      if (!wants_output) continue;
      const float inverse = sum > 0 ? 1.0f / sum : 0.0f;
      const std::int64_t at = step.query.out.at(token, head);
      TERSEKV_UNROLL
      for (int c = 0; c < D / 8; ++c) {
        const int channel = 8 * c + lane % 4 * 2;
        write_pair(step.query.out, at + channel, state.out[c][2 * i] * inverse, state.out[c][2 * i + 1] * inverse,
                   rows.page.value_dim - channel);
      }
    }
  }
};

template <class Page, int D>
__global__ void __launch_bounds__(prompt_shape<Page, D>::threads, prompt_shape<Page, D>::blocks)
    prompt_kernel(prompt_arguments<Page> a) {
  using shape = prompt_shape<Page, D>;
  using block = prompt_block<Page, D>;
  using layout = typename block::layout;
  const step_view step(a.batch, a.windows, static_cast<int>(blockIdx.z));
  const int head = static_cast<int>(blockIdx.y), group = a.shape.group;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * shape::rows;  // the longest first
  const int end = first + shape::rows < step.query.n * group ? first + shape::rows : step.query.n * group;
  if (first >= end) return;  // the whole block
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const auto sight = [&](int row) { return sight_range(a.shape, step.position((row < end ? row : end - 1) / group)); };
  const head_reader<Page> rows{a.page, step.query.heads[head], step, head, {}};
  const tile_loader<Page, D> tiles{rows, layout::template get<1>(), layout::template get<2>()};
  const int first_row = first + warp * 16;
  block b{a.shape,
          step,
          rows,
          tiles,
          sight(first),
          sight(end - 1),
          {sight(first_row + lane / 4), sight(first_row + lane / 4 + 8)},
          {layout::template get<0>() + warp * 16 * shape::key_stride, {}},
          {},
          layout::template get<4>(),
          layout::template get<5>(),
          step.query.out.data != nullptr};
  TERSEKV_UNROLL
  for (int c = 0; c < D / 8; ++c) b.state.out[c][0] = b.state.out[c][1] = b.state.out[c][2] = b.state.out[c][3] = 0;

  tiles.clear();
  float* turning = layout::template get<3>() + warp * D;
  if constexpr (shape::turned_keys) {
    load_queries<D>(b.queries, step, a.shape, head, first_row, a.page.key_dim, turning,
                    [&](float* x) { turn_query(a.page.keys.turn, x, a.page.key_dim); });
    b.template attend_part<row_part::packed>();
  }
  load_queries<D>(b.queries, step, a.shape, head, first_row, a.page.key_dim, nullptr, [](float*) {});
  if constexpr (!shape::turned_keys) b.template attend_part<row_part::packed>();
  if constexpr (shape::turned_values) b.turn_outputs(turning);
  b.template attend_part<row_part::sinks>();
  b.template attend_part<row_part::window>();
  b.template attend_part<row_part::own>();
  b.finish(first_row);
}

/// Whether a page format has this path: its dimensions fit, and its numbers are not more precise than halves.
template <class Page>
bool has_prompt_kernel(const Page& page) {
  using keys = typename stored_basis<typename Page::key_format>::format;
  using values = typename stored_basis<typename Page::value_format>::format;
  constexpr bool halves = !std::is_same_v<keys, dense_format<float>> && !std::is_same_v<values, dense_format<float>>;
  return halves && page.key_dim <= 256 && page.value_dim <= 256;
}

/// The kernel for dimensions of up to D, which is 64, 128 or 256. As prompt_attention.
template <int D, class Page>
void launch_prompt(const Page& page, const attend_shape& shape, const device_query* batch, int sequences,
                   int most_tokens, const device_window* windows, cuda_stream stream) {
  using tuned = prompt_shape<Page, D>;
  const auto blocks = static_cast<unsigned>((most_tokens * shape.group + tuned::rows - 1) / tuned::rows);
  launch(prompt_kernel<Page, D>, dim3(blocks, static_cast<unsigned>(shape.kv_heads), static_cast<unsigned>(sequences)),
         dim3(tuned::threads), prompt_block<Page, D>::layout::bytes, stream, {page, shape, batch, windows});
}

/// out, log_sum_exp of every query of a batch, by the fastest kernel for its format.
/// Shapes  batch, windows [sequences] in device memory, windows may be null; most_tokens >= n of every sequence;
///         a null `out` leaves log_sum_exp only
/// Cost    rows and weights pass through halves: about 1e-3 of the largest value
template <class Page>
void prompt_attention(const Page& page, const attend_shape& shape, const device_query* batch, int sequences,
                      int most_tokens, const device_window* windows, cuda_stream stream) {
  const int dim = page.key_dim > page.value_dim ? page.key_dim : page.value_dim;
  if (!has_prompt_kernel(page))
    reference_attention(page, shape, batch, sequences, most_tokens, windows, {}, stream);
  else if (dim <= 64)
    launch_prompt<64>(page, shape, batch, sequences, most_tokens, windows, stream);
  else if (dim <= 128)
    launch_prompt<128>(page, shape, batch, sequences, most_tokens, windows, stream);
  else
    launch_prompt<256>(page, shape, batch, sequences, most_tokens, windows, stream);
}

}  // namespace tersekv::detail
