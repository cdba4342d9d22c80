// SPDX-License-Identifier: Apache-2.0
// Attention mass per row of the cache, in a pass of its own once all log-sum-exps are known: any format, number by
// number. What has no faster kernel runs here. A row's sums belong to one thread, which meets queries in order: no
// atomics, and the same bits in every run.
//
// Read before: reference.cuh.
#pragma once
#include <tersekv/backend/cuda/reference.cuh>

namespace tersekv::detail {

/// Where masses go. Signal rows: one for each token where `separate`; otherwise the sum over tokens and, where there
/// are two, the last token.
struct mass_target {
  float* mass;          // [sequences, kv_heads, rows, stride] over row indices; added to
  int rows;             // signal rows
  std::int64_t stride;  // >= rows of a head and of the step
  int observed;         // tokens that count, the first of a step
  bool separate;
  __device__ float* row(int head_of_batch, int signal_row) const {
    return mass + (static_cast<std::int64_t>(head_of_batch) * rows + signal_row) * stride;
  }
};

template <class Page>
struct prompt_mass_arguments {
  Page page;
  attend_shape shape;
  const device_query* batch;     // [sequences]
  const device_window* windows;  // [sequences]; null = the queries are those of the steps
  page_lists pages;
  mass_target target;
};

/// Calls f.operator()<part>(first row) for tile `tile` of a head; for none behind the last. Tiles hold Rows rows of one
/// part.
template <int Rows, class Page, class F>
__device__ __forceinline__ void with_tile(const head_reader<Page>& rows, int tile, F f) {
  const auto is_in = [&]<row_part P>() {
    const int tiles = (rows.template count<P>() + Rows - 1) / Rows, at = tile;
    tile -= tiles;
    if (at >= 0 && at < tiles) f.template operator()<P>(at * Rows);
  };
  is_in.template operator()<row_part::packed>();
  is_in.template operator()<row_part::sinks>();
  is_in.template operator()<row_part::window>();
  is_in.template operator()<row_part::own>();
}
/// Most tiles of a head.
constexpr unsigned most_tiles(int rows, int most_rows) { return static_cast<unsigned>(most_rows / rows + 4); }

template <class Page>
using reference_mass_layout =
    shared_layout<region<float, static_cast<std::size_t>(reference_warps* Page::largest_dim)>>;

/// A warp takes 32 rows, a lane one of them.
template <class Page>
__global__ void reference_mass_kernel(prompt_mass_arguments<Page> a) {
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int head = static_cast<int>(blockIdx.y), group = a.shape.group;
  const int head_of_batch = static_cast<int>(blockIdx.z) * a.shape.kv_heads + head;
  const step_view step(a.batch, a.windows, static_cast<int>(blockIdx.z));
  const head_reader<Page> rows{a.page, step.query.heads[head], step, head, a.pages.of(head_of_batch)};
  const int observed = a.target.observed < step.query.n ? a.target.observed : step.query.n;
  float* q = reference_mass_layout<Page>::template get<0>() + warp * Page::largest_dim;
  with_tile<32>(rows, static_cast<int>(blockIdx.x) * reference_warps + warp, [&]<row_part P>(int first) {
    const int row = first + lane;
    const bool exists = row < rows.template count<P>();
    const int position = exists ? rows.template position<P>(row) : -1;
    float sum = 0, last = 0;
    for (int token = 0; token < observed; ++token) {
      const sight_range sight(a.shape, step.position(token));
      last = 0;
      for (int g = 0; g < group; ++g) {
        const int query_head = head * group + g;
        __syncwarp();
        for (int c = lane; c < a.page.key_dim; c += 32)
          q[c] = read_element(step.query.queries, step.query.queries.at(token, query_head) + c) * a.shape.scale *
                 log2_of_e;
        __syncwarp();
        if (P == row_part::packed) stored_basis<typename Page::key_format>::turn(a.page.keys, q, a.page.key_dim);
        if (!sight.sees(position)) continue;
        float logit =
            (rows.template bias<P>(row) - step.query.log_sum_exp[token * a.shape.kv_heads * group + query_head]) *
            log2_of_e;
        for (int c = 0; c < a.page.key_dim; ++c) logit += q[c] * rows.template key<P>(row, c);
        last += exp2_fast(logit);
      }
      last /= static_cast<float>(group);
      if (a.target.separate && position >= 0) a.target.row(head_of_batch, token)[rows.template index<P>(row)] += last;
      sum += last;
    }
    if (a.target.separate || position < 0) return;
    a.target.row(head_of_batch, 0)[rows.template index<P>(row)] += sum;
    if (a.target.rows > 1) a.target.row(head_of_batch, 1)[rows.template index<P>(row)] += last;
  });
}

template <class Page>
void reference_mass(const prompt_mass_arguments<Page>& a, int sequences, int most_rows, cuda_stream stream) {
  const unsigned blocks = (most_tiles(32, most_rows) + reference_warps - 1) / reference_warps;
  launch(reference_mass_kernel<Page>,
         dim3(blocks, static_cast<unsigned>(a.shape.kv_heads), static_cast<unsigned>(sequences)),
         dim3(32 * reference_warps), reference_mass_layout<Page>::bytes, stream, a);
}

}  // namespace tersekv::detail
