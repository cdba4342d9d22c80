// SPDX-License-Identifier: Apache-2.0
// Which rows stay, on the device: the answers of decide() (trim.hpp), for all heads of a batch at once.
//
//   list_rows     the list of each head's rows, their protection, what scorers may know, and scores by row
//   (keys of the list are decoded, for policies that compare them)
//   select_rows   other scores, means over heads, budgets, selection: row_lists::keep and kept
#pragma once
#include <climits>

#include <tersekv/backend/cuda/block.cuh>
#include <tersekv/backend/cuda/observe.cuh>
#include <tersekv/detail/row_worth.hpp>

namespace tersekv::detail {

/// What observe_rows() writes; `columns` of all policies.
inline void carve_staged(carver& from, row_lists& l, const commit_shape& s, int columns) {
  from.take(l.staged_state, static_cast<std::size_t>(s.heads()) * static_cast<std::size_t>(s.most_accepted) *
                                static_cast<std::size_t>(columns));
}
/// The lists themselves.
template <class Evict>
void carve_lists(carver& from, row_lists& l, const commit_shape& s) {
  const auto heads = static_cast<std::size_t>(s.heads()), rows = heads * static_cast<std::size_t>(s.most_rows);
  for (int** counts : {&l.rows, &l.guarded, &l.allowed, &l.open, &l.kept}) from.take(*counts, heads);
  from.take(l.sure, heads);
  from.take(l.source, rows);
  from.take(l.position, rows);
  from.take(l.state, rows * Evict::columns);
  if constexpr (states_need<fact::last_attention, Evict>) from.take(l.last, rows);
  if constexpr (states_need<fact::query_window, Evict>) from.take(l.window, rows);
  from.take(l.score, rows);
  from.take(l.guard, rows);
  from.take(l.keep, rows);
}
template <class Evict>
row_lists carve_lists(carver& from, const commit_shape& s, int columns) {
  row_lists l{};
  carve_staged(from, l, s, columns);
  carve_lists<Evict>(from, l, s);
  return l;
}

/// The lists of a batch.
struct head_lists {
  batch_of<device_commit> batch;
  commit_shape shape;
  row_lists lists;

  __device__ int seen(const head_place& at) const { return batch[at.sequence].length + batch[at.sequence].accepted; }
  /// First position that a reader of the slot can still see.
  __device__ int first_seen(const head_place& at) const {
    const int retained = shape.retained ? shape.retained[shape.first_slot + at.slot] : 0;
    return retained > 0 ? seen(at) - retained + 1 : INT_MIN;
  }
  /// Of a head in arrays [heads, most_rows].
  __device__ std::int64_t first(int head) const { return static_cast<std::int64_t>(head) * shape.most_rows; }
  /// State of row index i, `columns` of all policies in all.
  __device__ float* state(const head_place& at, int i, int columns) const {
    const device_head& head = batch[at.sequence].heads[at.of_sequence(shape)];
    const int j = i - head.rows();
    if (j < 0) return head.state + static_cast<std::int64_t>(i) * columns;
    return lists.staged_state + (static_cast<std::int64_t>(at.index) * shape.most_accepted + j) * columns;
  }
  dim3 grid() const {
    return dim3(1, static_cast<unsigned>(shape.slots * shape.kv_heads), static_cast<unsigned>(shape.sequences));
  }
};

template <class Evict>
struct list_arguments : head_lists {
  Evict evict;
  int columns;  // of all policies

  __device__ row_signals signals(const head_place& at) const {
    const std::int64_t f = first(at.index);
    return {lists.position + f,
            lists.state + f * Evict::columns,
            lists.last + (lists.last ? f : 0),
            lists.window + (lists.window ? f : 0),
            lists.keys + (lists.keys ? f * shape.key_dim : 0),
            lists.rows[at.index],
            shape.key_dim,
            batch[at.sequence].window_queries,
            seen(at),
            shape.first_slot + at.slot,
            at.kv_head};
  }
};

template <class Evict>
__device__ protection protection_of(const list_arguments<Evict>& a, const device_commit& c, int position, int seen) {
  for (int r = 0; r < c.range_count; ++r)
    if (position >= c.ranges[r].first && position < c.ranges[r].last) return protection::caller;
  return a.evict.protects(row{position, seen - 1 - position});
}

/// One row of the list.
template <class Evict>
__device__ void list_row(const list_arguments<Evict>& a, const head_place& at, int i, int position, int to,
                         protection guard) {
  const device_commit c = a.batch[at.sequence];
  const std::int64_t w = a.first(at.index) + to;
  a.lists.source[w] = i;
  a.lists.position[w] = position;
  a.lists.guard[w] = guard;
  a.lists.keep[w] = position >= a.first_seen(at);
  if constexpr (Evict::columns > 0) {
    const float* state = a.state(at, i, a.columns);
    for (int n = 0; n < Evict::columns; ++n) a.lists.state[w * Evict::columns + n] = state[n];
  }
  if constexpr (states_need<fact::last_attention, Evict>) {
    const int newest = c.signal_rows == c.tokens ? c.observed - 1 : 1;
    a.lists.last[w] = c.observed > 0 ? signal(c, a.shape, at, i, newest, newest + 1) : 0.0f;
  }
  if constexpr (states_need<fact::query_window, Evict>)
    a.lists.window[w] = c.due ? c.window[at.of_sequence(a.shape) * c.signal_stride + i] : 0.0f;
}

using list_layout = shared_layout<region<int, most_warps>>;

template <class Evict>
__global__ void list_kernel(list_arguments<Evict> a) {
  int* scratch = list_layout::get<0>();
  const head_place at(a.shape);
  const device_commit c = a.batch[at.sequence];
  const device_head& head = c.heads[at.of_sequence(a.shape)];
  const int committed = head.rows(), all = committed + c.accepted, seen = a.seen(at);
  int rows = 0, guarded = 0;
  for (int first = 0; first < all; first += static_cast<int>(blockDim.x)) {
    const int i = first + static_cast<int>(threadIdx.x);
    const int position = i >= all ? -1 : i < committed ? head.position[i] : c.length + i - committed;
    int live;
    const int to = rows + block_rank(position >= 0, scratch, live);
    rows += live;
    if (position >= 0) {
      const protection guard = protection_of(a, c, position, seen);
      guarded += guard != protection::none;
      list_row(a, at, i, position, to, guard);
    }
  }
  guarded = block_sum(guarded, scratch);
  if (threadIdx.x == 0) {
    a.lists.rows[at.index] = rows;
    a.lists.guarded[at.index] = guarded;
  }
  __syncthreads();
  if constexpr (scores_rows<Evict>) {
    const row_signals signals = a.signals(at);
    for (int j = static_cast<int>(threadIdx.x); j < rows; j += static_cast<int>(blockDim.x))
      a.lists.score[a.first(at.index) + j] = a.evict.score(signals, j);
  }
}

/// Scores of policies with one set of rows per slot: the mean over its heads, in their order.
/// Shapes  grid (rows, slots, sequences)
template <class Evict>
__global__ void mean_kernel(list_arguments<Evict> a) {
  const int heads = a.shape.kv_heads;
  const int first = static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y) * heads;
  const int j = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (j >= a.lists.rows[first]) return;
  float sum = 0;
  for (int h = 0; h < heads; ++h) sum += a.lists.score[a.first(first + h) + j];
  for (int h = 0; h < heads; ++h) a.lists.score[a.first(first + h) + j] = sum / static_cast<float>(heads);
}

template <class Evict, class Budget>
struct select_arguments {
  list_arguments<Evict> list;
  Budget budget;
  int base, slack;  // evict.budget(), trigger::slack

  /// Rows that the head may keep; INT_MAX where nobody in its slot is above the budget.
  __device__ int allowed(const head_place& at) const {
    const commit_shape& shape = list.shape;
    const row_lists& lists = list.lists;
    const int first = at.index - at.kv_head;
    if (!list.batch[at.sequence].due) return INT_MAX;
    bool over = false;
    int rows = base;
    if constexpr (!Budget::needs_scores)
      rows = budget.rows_per_head({base, shape.first_slot + at.slot, shape.all_slots, list.seen(at), shape.kv_heads,
                                   lists.rows + first, lists.guarded + first});
    const int least = Budget::needs_scores || rows > 1 ? rows : 1;
    for (int h = 0; h < shape.kv_heads; ++h) over = over || lists.rows[first + h] - slack > least;
    if (!over) return INT_MAX;
    if constexpr (Budget::needs_scores) rows = lists.allowed[at.index];
    return rows > 1 ? rows : 1;
  }
};

using select_layout = shared_layout<region<int, most_warps>, region<select_scratch, 1>>;

template <class Evict, class Budget>
__global__ void select_kernel(select_arguments<Evict, Budget> a) {
  int* scratch = select_layout::get<0>();
  const head_place at(a.list.shape);
  const row_lists& lists = a.list.lists;
  const std::int64_t first = a.list.first(at.index);
  const protection* guard = lists.guard + first;
  const float* score = lists.score + first;
  unsigned char* keep = lists.keep + first;
  const int rows = lists.rows[at.index], budget = a.allowed(at);
  const auto each_row = [&](auto&& f) {
    for (int j = static_cast<int>(threadIdx.x); j < rows; j += static_cast<int>(blockDim.x)) f(j);
  };
  int forced = 0, others = 0;
  each_row([&](int j) {
    forced += keep[j] && guard[j] == protection::caller;
    others += keep[j] && guard[j] != protection::caller;
  });
  forced = block_sum(forced, scratch);
  others = block_sum(others, scratch);
  int taken = others;
  if (rows > budget) {
    const int least = forced == 0 ? 1 : 0, room = budget - forced > least ? budget - forced : least;
    taken = room < others ? room : others;
  }
  if (taken < others) {
    const auto key = [&](int j) { return row_worth(guard[j], !keep[j], score[j], j); };
    const std::uint64_t least = taken > 0 ? block_select(rows, taken, key, select_layout::get<1>()) : ~std::uint64_t{0};
    each_row([&](int j) {
      if (guard[j] != protection::caller) keep[j] = key(j) >= least;
    });
  }
  if (threadIdx.x == 0) lists.kept[at.index] = forced + taken;
}

/// The lists of all heads of the batch, their protection and scores by row. Observe first.
template <class Evict>
void list_rows(const list_arguments<Evict>& a, cuda_stream stream) {
  if constexpr (have_device_forms<Evict>::value)
    launch(list_kernel<Evict>, a.grid(), a.shape.threads, list_layout::bytes, stream, a);
}

/// Fills row_lists::keep and kept. Rows that no reader can see any more leave in any case; others only where `due`.
template <class Evict, class Budget>
void select_rows(const list_arguments<Evict>& a, const Budget& budget, cuda_stream stream) {
  if constexpr (have_device_forms<Evict, Budget>::value) {
    if constexpr (!scores_rows<Evict> && works_on_device<Evict>) Evict::on_device::score(a, stream);
    if constexpr (requires { Evict::per_layer; })
      if (Evict::per_layer)
        launch(mean_kernel<Evict>,
               dim3((static_cast<unsigned>(a.shape.most_rows) + 255) / 256, static_cast<unsigned>(a.shape.slots),
                    static_cast<unsigned>(a.shape.sequences)),
               256, 0, stream, a);
    if constexpr (Budget::needs_scores) Budget::on_device::allocate(budget, a, stream);
    const trigger when = a.evict.when;
    launch(select_kernel<Evict, Budget>, a.grid(), a.shape.threads, select_layout::bytes, stream,
           {a, budget, a.evict.budget(), when.slack});
  }
}

}  // namespace tersekv::detail
