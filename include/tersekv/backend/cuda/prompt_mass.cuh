// SPDX-License-Identifier: Apache-2.0
// Attention mass per row for many queries: a second pass over the keys, once all log-sum-exps are known. A block of
// threads owns a tile of rows and meets the queries in order, 64 rows of them at a time.
//
// Read before: prompt_tiles.cuh, reference_mass.cuh.
#pragma once
#include <tersekv/backend/cuda/prompt.cuh>
#include <tersekv/backend/cuda/reference_mass.cuh>

namespace tersekv::detail {

template <class Page, int D>
struct prompt_mass_block {
  using shape = prompt_shape<Page, D>;
  static constexpr int stride = shape::keys + 4;               // of weights: eight rows begin in eight different banks
  static constexpr int adders = shape::threads / shape::keys;  // threads that share a column
  using layout = shared_layout<typename shape::queries, typename shape::key_tile, typename shape::turning,
                               typename shape::positions, typename shape::biases,
                               region<float, static_cast<std::size_t>(shape::rows* stride)>>;
  const prompt_mass_arguments<Page>& a;
  const step_view& step;
  const head_reader<Page>& rows;
  int head_of_batch, observed;
  float sum = 0, last = 0;

  template <row_part P>
  __device__ void run(int first) {
    const tile_loader<Page, D> tiles{rows, layout::template get<1>(), nullptr};
    const int here = tiles.template here<P>(first), end = observed * a.shape.group;
    int* position = layout::template get<3>();
    float* bias = layout::template get<4>();
    tiles.clear();
    tiles.template load_keys<P>(first);
    for (int i = static_cast<int>(threadIdx.x); i < shape::keys; i += shape::threads) {
      position[i] = i < here ? rows.template position<P>(first + i) : -1;
      bias[i] = position[i] >= 0 ? rows.template bias<P>(first + i) * log2_of_e : 0.0f;
    }
    __syncthreads();
    const int column = static_cast<int>(threadIdx.x) % shape::keys;
    const bool exists = position[column] >= 0;
    const int index = exists ? rows.template index<P>(first + column) : 0;
    for (int query = 0; query < end; query += shape::rows) {
      const int stop = query + shape::rows < end ? query + shape::rows : end;
      if (!seen(position, query, stop)) continue;
      weigh<P>(query, stop);
      __syncthreads();
      if (exists) add(query, stop, index);
      __syncthreads();
    }
    if (!a.target.separate) write(exists, index);
  }

 private:
  __device__ sight_range sight(int query) const { return {a.shape, step.position(query / a.shape.group)}; }
  /// Whether one of the queries sees one of the rows; all warps find the same.
  __device__ bool seen(const int* position, int query, int stop) const {
    const int oldest = sight(query).oldest, newest = sight(stop - 1).newest;
    bool any = false;
    for (int i = static_cast<int>(threadIdx.x % 32); i < shape::keys; i += 32)
      any = any || (position[i] >= oldest && position[i] <= newest);
    return __any_sync(all_lanes, any);
  }

  /// Weights of query rows query .. stop, zeros behind them.
  template <row_part P>
  __device__ void weigh(int query, int stop) const {
    const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
    const int first_row = query + warp * 16, key_dim = a.page.key_dim, group = a.shape.group;
    warp_queries q{layout::template get<0>() + warp * 16 * shape::key_stride, {}};
    if constexpr (P == row_part::packed && shape::turned_keys)
      load_queries<D>(q, step, a.shape, rows.kv_head, first_row, key_dim, layout::template get<2>() + warp * D,
                      [&](float* x) { turn_query(a.page.keys.turn, x, key_dim); });
    else
      load_queries<D>(q, step, a.shape, rows.kv_head, first_row, key_dim, nullptr, [](float*) {});
    float s[shape::keys / 8][4];
    multiply_keys<D, shape::keys>(s, q.q, layout::template get<1>(), key_dim);
    const int* position = layout::template get<3>();
    const float* bias = layout::template get<4>();
    TERSEKV_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + lane / 4 + 8 * i, token = row / group;
      const bool counts = row < stop;
      const sight_range sees = sight(counts ? row : stop - 1);
      const float shift =
          counts ? step.query.log_sum_exp[(token * a.shape.kv_heads + rows.kv_head) * group + row % group] * log2_of_e
                 : 0.0f;
      float* to = layout::template get<5>() + (row - query) * stride + lane % 4 * 2;
      TERSEKV_UNROLL
      for (int j = 0; j < shape::keys / 8; ++j) {
        float w[2];
        TERSEKV_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int at = 8 * j + lane % 4 * 2 + e;
          const float x = exp2_fast(s[j][2 * i + e] * q.factor[i] + bias[at] - shift);
          w[e] = counts && sees.sees(position[at]) ? x : 0.0f;
        }
        store_shared(to + 8 * j, make_float2(w[0], w[1]));
      }
    }
  }

  /// Adds up a column: every adder takes each adders-th token.
  __device__ void add(int query, int stop, int index) {
    const int column = static_cast<int>(threadIdx.x) % shape::keys, adder = static_cast<int>(threadIdx.x) / shape::keys;
    const int group = a.shape.group;
    const float* weights = layout::template get<5>() + column;
    const auto token_sum = [&](int token) {
      const int from = token * group > query ? token * group : query;
      const int to = (token + 1) * group < stop ? (token + 1) * group : stop;
      float x = 0;
      for (int r = from; r < to; ++r) x += weights[(r - query) * stride];
      return x / static_cast<float>(group);
    };
    const int first = query / group;
    for (int token = first + (adder + adders - first % adders) % adders; token * group < stop; token += adders) {
      const float x = token_sum(token);
      if (a.target.separate)
        a.target.row(head_of_batch, token)[index] += x;
      else
        sum += x;
      if (token == observed - 1) last += x;
    }
  }

  /// The adders' sums, in order.
  __device__ void write(bool exists, int index) const {
    float* sums = layout::template get<5>();
    const int thread = static_cast<int>(threadIdx.x);
    const auto total = [&](float mine) {
      __syncthreads();
      sums[thread] = mine;
      __syncthreads();
      float x = 0;
      for (int i = thread % shape::keys; i < shape::threads; i += shape::keys) x += sums[i];
      return x;
    };
    const float all = total(sum), newest = total(last);
    if (!exists || thread >= shape::keys) return;
    a.target.row(head_of_batch, 0)[index] += all;
    if (a.target.rows > 1) a.target.row(head_of_batch, 1)[index] += newest;
  }
};

template <class Page, int D>
__global__ void __launch_bounds__(prompt_shape<Page, D>::threads, prompt_shape<Page, D>::blocks)
    prompt_mass_kernel(prompt_mass_arguments<Page> a) {
  const int head = static_cast<int>(blockIdx.y);
  const int head_of_batch = static_cast<int>(blockIdx.z) * a.shape.kv_heads + head;
  const step_view step(a.batch, a.windows, static_cast<int>(blockIdx.z));
  const head_reader<Page> rows{a.page, step.query.heads[head], step, head, a.pages.of(head_of_batch)};
  const int observed = a.target.observed < step.query.n ? a.target.observed : step.query.n;
  prompt_mass_block<Page, D> block{a, step, rows, head_of_batch, observed};
  with_tile<prompt_shape<Page, D>::keys>(rows, static_cast<int>(blockIdx.x),
                                         [&]<row_part P>(int first) { block.template run<P>(first); });
}

/// The kernel for key dimensions of up to D, which is 64, 128 or 256.
template <int D, class Page>
void launch_mass(const prompt_mass_arguments<Page>& a, int sequences, int most_rows, cuda_stream stream) {
  using shape = prompt_shape<Page, D>;
  launch(prompt_mass_kernel<Page, D>,
         dim3(most_tiles(shape::keys, most_rows), static_cast<unsigned>(a.shape.kv_heads),
              static_cast<unsigned>(sequences)),
         dim3(shape::threads), prompt_mass_block<Page, D>::layout::bytes, stream, a);
}

/// mass[sequence, kv_head, signal row, row index] += the mean over the group's query heads of the attention of the
/// first `observed` tokens, after prompt_attention of the same batch, whose log_sum_exp must not be null. Shapes  mass
/// [sequences, kv_heads, signal_rows, stride] in device memory; signal_rows: most_tokens = one for each
///         token; 2 = the sum over tokens, and the last; 1 = the sum. most_rows >= rows of a head and of the step
template <class Page>
void prompt_mass(const Page& page, const attend_shape& shape, const device_query* batch, int sequences, int most_tokens,
                 int most_rows, const device_window* windows, const page_lists& pages, int observed, float* mass,
                 int signal_rows, std::int64_t stride, cuda_stream stream) {
  const prompt_mass_arguments<Page> a{
      page,    shape, batch,
      windows, pages, {mass, signal_rows, stride, observed, signal_rows == most_tokens || signal_rows > 2}};
  if (!has_prompt_kernel(page))
    reference_mass(a, sequences, most_rows, stream);
  else if (page.key_dim <= 64)
    launch_mass<64>(a, sequences, most_rows, stream);
  else if (page.key_dim <= 128)
    launch_mass<128>(a, sequences, most_rows, stream);
  else
    launch_mass<256>(a, sequences, most_rows, stream);
}

}  // namespace tersekv::detail
