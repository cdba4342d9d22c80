// SPDX-License-Identifier: Apache-2.0
// Attention of any number of queries over rows of any format: one warp per query row, numbers one by one. What has no
// faster kernel runs here, and faster kernels are compared with it.
//
// Read before: rows_as_numbers.cuh.
#pragma once
#include <limits>

#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/backend/cuda/rows_as_numbers.cuh>
#include <tersekv/backend/cuda/turn.cuh>

namespace tersekv::detail {

inline constexpr float minus_infinite = -std::numeric_limits<float>::infinity();

/// A warp's softmax of one query row, in units of log 2, and the row itself in shared memory.
struct query_state {
  float* q;    // [key_dim]
  float* out;  // [value_dim] not yet divided
  float maximum = minus_infinite, sum = 0;
};

/// The rows of one part, 32 at a time: a lane finds the logit of a row, then adds up channels.
template <row_part P, class Page>
__device__ void attend_rows(const head_reader<Page>& rows, const sight_range& sight, query_state& s) {
  const int lane = static_cast<int>(threadIdx.x % 32), count = rows.template count<P>();
  const int key_dim = rows.page.key_dim, value_dim = rows.page.value_dim;
  for (int first = 0; first < count; first += 32) {
    const int row = first + lane;
    float logit = minus_infinite;
    if (row < count && sight.sees(rows.template position<P>(row))) {
      logit = rows.template bias<P>(row) * log2_of_e;
      for (int c = 0; c < key_dim; ++c) logit += s.q[c] * rows.template key<P>(row, c);
    }
    const float top = warp_reduce(logit, [](float x, float y) { return x > y ? x : y; });
    if (top == minus_infinite) continue;
    const float maximum = top > s.maximum ? top : s.maximum, shrink = exp2_fast(s.maximum - maximum);
    const float weight = exp2_fast(logit - maximum);
    s.maximum = maximum;
    s.sum = s.sum * shrink + warp_reduce(weight, [](float x, float y) { return x + y; });
    for (int c0 = 0; c0 < value_dim; c0 += 32) {
      const int c = c0 + lane;
      float x = c < value_dim ? s.out[c] * shrink : 0.0f;
      for (int r = 0; r < 32; ++r) {
        const float w = __shfl_sync(all_lanes, weight, r);
        if (w != 0 && c < value_dim) x += w * rows.template value<P>(first + r, c);
      }
      if (c < value_dim) s.out[c] = x;
    }
  }
}

template <class Page>
struct reference_arguments {
  Page page;
  attend_shape shape;
  const device_query* batch;     // [sequences]
  const device_window* windows;  // [sequences]; null = the queries are those of the steps
  page_lists pages;
};

inline constexpr int reference_warps = 4;
template <class Page>
using reference_layout = shared_layout<region<float, static_cast<std::size_t>(reference_warps* Page::largest_dim)>,
                                       region<float, static_cast<std::size_t>(reference_warps* Page::largest_dim)>>;

template <class Page>
__global__ void reference_kernel(reference_arguments<Page> a) {
  using layout = reference_layout<Page>;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.x) * reference_warps + warp;
  const step_view view(a.batch, a.windows, static_cast<int>(blockIdx.z));
  const device_query& step = view.query;
  if (row >= step.n * a.shape.group) return;  // all lanes of the warp
  const int token = row / a.shape.group, query_head = head * a.shape.group + row % a.shape.group;
  const head_reader<Page> rows{a.page, step.heads[head], view, head,
                               a.pages.of(static_cast<int>(blockIdx.z) * a.shape.kv_heads + head)};
  const sight_range sight(a.shape, view.position(token));
  query_state s{layout::template get<0>() + warp * Page::largest_dim,
                layout::template get<1>() + warp * Page::largest_dim};

  const auto load_query = [&] {
    __syncwarp();
    for (int c = lane; c < a.page.key_dim; c += 32)
      s.q[c] = read_element(step.queries, step.queries.at(token, query_head) + c) * a.shape.scale * log2_of_e;
    __syncwarp();
  };
  for (int c = lane; c < a.page.value_dim; c += 32) s.out[c] = 0;
  load_query();
  using key_format = typename Page::key_format;
  using value_format = typename Page::value_format;
  if constexpr (stored_basis<key_format>::turned) turn_query(a.page.keys.turn, s.q, a.page.key_dim);
  attend_rows<row_part::packed>(rows, sight, s);
  if constexpr (stored_basis<key_format>::turned) load_query();
  if constexpr (stored_basis<value_format>::turned) {
    __syncwarp();
    turn_output(a.page.values.turn, s.out, a.page.value_dim);
  }
  attend_rows<row_part::sinks>(rows, sight, s);
  attend_rows<row_part::window>(rows, sight, s);
  attend_rows<row_part::own>(rows, sight, s);

  const float inverse = s.sum > 0 ? 1.0f / s.sum : 0.0f;
  for (int c = lane; step.out.data != nullptr && c < a.page.value_dim; c += 32)  // a window's queries have none
    write_element(step.out, step.out.at(token, query_head) + c, s.out[c] * inverse);
  if (lane == 0 && step.log_sum_exp)
    step.log_sum_exp[token * a.shape.kv_heads * a.shape.group + query_head] =
        s.sum > 0 ? (s.maximum + log2f(s.sum)) * log_of_2 : minus_infinite;
}

/// out, log_sum_exp of every query of a batch.
/// Shapes  batch [sequences] in device memory; most_tokens >= n of every sequence
/// Cost    for comparison and rare formats: every number is found on its own
template <class Page>
void reference_attention(const Page& page, const attend_shape& shape, const device_query* batch, int sequences,
                         int most_tokens, const device_window* windows, const page_lists& pages, cuda_stream stream) {
  const auto blocks = static_cast<unsigned>((most_tokens * shape.group + reference_warps - 1) / reference_warps);
  launch(reference_kernel<Page>, dim3(blocks, static_cast<unsigned>(shape.kv_heads), static_cast<unsigned>(sequences)),
         dim3(32 * reference_warps), reference_layout<Page>::bytes, stream, {page, shape, batch, windows, pages});
}

}  // namespace tersekv::detail
