// SPDX-License-Identifier: Apache-2.0
// How the CPU attends a few queries of a step: straight from packed pages, spread over heads and rows.
//
// A head's work is cut into items at fixed row indices: chunks of packed pages, and one item for the rows that are
// numbers (sinks, window, the step's own). Each item leaves a partial state; states are merged in order. So the result
// does not depend on who computes which item, and one head is enough work for all cores. A thread stays with a head
// while that has items, and whoever ends the last one ends the head: where policies want attention mass, its weights
// are then still in that core's cache.
//
// Read before: packed.hpp, head_rows.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include <tersekv/backend/cpu/packed.hpp>
#include <tersekv/backend/cpu/page_choice.hpp>
#include <tersekv/head_rows.hpp>
#include <tersekv/shape.hpp>
#include <tersekv/view.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

/// Memory of one head's decoding; kept between steps.
struct decode_scratch {
  struct alignas(64) line {
    std::byte of[64];
  };
  struct pass {
    int first, rows;
    std::size_t prepared;  // line of the prepared query
  };
  std::vector<pass> passes;
  std::vector<float> queries;         // [rows, padded(key_dim)] in units of log 2
  std::vector<sight> see;             // [rows]
  std::vector<line> prepared;         // every pass's query
  std::vector<float> states;          // [items] of maximum [rows], sum [rows], out [rows, padded(value_dim)]
  std::vector<tile_weights> weights;  // [tiles, rows]; these three only where a signal is wanted
  std::vector<float> tile_maximum;    // [tiles, rows]
  std::vector<weight_record::tile_rows> tile_rows;  // [tiles]
  std::thread::id writer;                           // who borrowed them last
  std::vector<int> staged_position;                 // [n]
  page_choice choice;
  int rows = 0;    // padded
  int pieces = 0;  // of packed rows
  int chunk = 0;   // pieces of an item
  int items = 0, begun = 0, ended = 0;
  int tiles = 0;
  int record = -1;        // whose weights this head uses; -1 = none yet
  std::thread::id owner;  // who began the first item
  bool lent = false, chosen = false;

  std::size_t bytes() const {
    return sizeof(line) * prepared.capacity() + sizeof(float) * (queries.capacity() + states.capacity()) +
           sizeof(tile_weights) * weights.capacity();
  }
  std::byte* query_of(const pass& p) { return prepared[p.prepared].of; }
  const std::byte* query_of(const pass& p) const { return prepared[p.prepared].of; }
};

/// One layer's queries of a step of n tokens over one slot. Core as in core.hpp.
template <class Core>
class decode_attention {
 public:
  /// Most rows of queries (tokens times group, for more than one token) that are attended in this way.
  static constexpr int most_rows_of_queries = 32;

  struct request {
    int n, length, window;  // tokens of the step, of the sequence before it; 0 = all rows are seen
    bool sees_self;
    const float* staged_keys;    // [kv_heads, n, key_dim]
    const float* staged_values;  // [kv_heads, n, value_dim]
  };

  decode_attention(const Core& core, std::vector<decode_scratch>& scratch, const request& step)
      : core_(core), scratch_(scratch), step_(step), rows_(step.n * core.shape.group()) {
    scratch_.resize(static_cast<std::size_t>(core.shape.kv_heads));
  }

  /// head(h): the committed rows of head h; done(h): called when the head's results may be read.
  template <class Head, class Done>
  void run(const view& q, Head&& head, Done&& done) {
    const int heads = core_.shape.kv_heads;
    const auto prepare_head = [&](int h) { prepare(h, q, head(h)); };
    const auto finish_head = [&](int h) {
      finish(h);
      done(h);
    };
    if constexpr (Core::needs_logits)
      for (decode_scratch& w : scratch_) w.record = -1, w.lent = false;
    if (!core_.backend.parallel) {
      for (int h = 0; h < heads; ++h) {
        prepare_head(h);
        if constexpr (Core::needs_logits) borrow_record(h);
        for (int i = 0; i < at(h).items; ++i) work(h, i, head(h));
        finish_head(h);
        if constexpr (Core::needs_logits) give_record_back(h);
      }
      return;
    }
    if constexpr (Core::read_type::selects)
      core_.backend.for_each(heads, prepare_head);
    else
      for (int h = 0; h < heads; ++h) prepare_head(h);
    int items = 0;
    for (int h = 0; h < heads; ++h) items += at(h).items;
    core_.backend.for_each(items, [&](int) {
      const auto [h, i] = next_item();
      if constexpr (Core::needs_logits) borrow_record(h);
      work(h, i, head(h));
      if constexpr (Core::needs_logits)
        if (was_last_item(h)) finish_head(h), give_record_back(h);
    });
    if constexpr (!Core::needs_logits)
      for (int h = 0; h < heads; ++h) finish_head(h);
  }

  /// Of query row r (token times group + query head) of head h: the output [value_dim]; the logarithm of its sum, base
  /// 2, -inf where nothing is visible.
  const float* output(int h, int r) const { return state(h, 0).from(r).out; }
  float log2_sum(int h, int r) const { return state(h, 0).maximum[r]; }
  /// mass[row] = the mean attention of query rows first .. first + count, for every row of head h and of the step.
  void store_mass(int h, int first, int count, std::span<float> mass) const {
    if (at(h).chosen) std::fill(mass.begin(), mass.end(), 0.0f);  // rows of other pages
    detail::store_mass(record(h).from(0, first), at(h).tiles, count, state(h, 0).maximum + first,
                       1.0f / static_cast<float>(count), mass.data());
  }

 private:
  using page = typename Core::page;
  using rows_type = typename Core::rows;
  using keys = key_kernel<typename page::key_format>;
  using values = value_kernel<typename page::value_format>;
  static constexpr int pieces_of_page = page::rows / piece_rows;

  /// Pieces of an item, for a head of so many: 2048 to 16384 rows. An item waits for memory at its start, and its first
  /// weights are too large a part of all to be rounded to 8 bits, so few long ones are better (4 bits in groups: 20 %
  /// less time), as long as all heads together have some 32, for many cores.
  int chunk_of(int pieces) const {
    constexpr int least = 64, most = 512, items = 32;
    const long wanted = static_cast<long>(pieces) * core_.shape.kv_heads / items;
    return static_cast<int>(std::clamp<long>(wanted, least, most)) / least * least;
  }

  /// What the calling thread works on next: an item of the head that it works on, of one that nobody has begun, or of
  /// the one with most left.
  struct item {
    int head, index;
  };
  item next_item() {
    const std::lock_guard lock(heads_);
    const auto self = std::this_thread::get_id();
    int next = -1;
    std::pair<int, int> best;  // how near, how many are left
    for (int h = 0; h < core_.shape.kv_heads; ++h) {
      const decode_scratch& w = at(h);
      if (w.begun == w.items) continue;
      const std::pair rank(w.begun == 0 ? 1 : w.owner == self ? 2 : 0, w.items - w.begun);
      if (next < 0 || rank > best) best = rank, next = h;
    }
    decode_scratch& w = at(next);
    if (w.begun == 0) w.owner = self;
    return {next, w.begun++};
  }

  /// Heads take turns with the memory of weights, which then stays in a core's cache: the one that the thread used
  /// last, or the first that is free, from a head's first item until its masses are added up.
  void borrow_record(int h) {
    const std::lock_guard lock(heads_);
    decode_scratch& w = at(h);
    if (w.record >= 0) return;
    const auto self = std::this_thread::get_id();
    decode_scratch* free = nullptr;
    for (decode_scratch& x : scratch_)
      if (!x.lent && (!free || (x.writer == self && free->writer != self))) free = &x;
    const auto size = static_cast<std::size_t>(w.tiles * w.rows);
    if (size > free->weights.capacity()) free->weights.reserve(size + size / 4);  // a sequence grows by a row per step
    free->weights.resize(size);
    free->tile_maximum.resize(size);
    free->tile_rows.resize(static_cast<std::size_t>(w.tiles));
    free->writer = self, free->lent = true;
    w.record = static_cast<int>(free - scratch_.data());
  }
  void give_record_back(int h) {
    const std::lock_guard lock(heads_);
    at(at(h).record).lent = false;
  }
  bool was_last_item(int h) {
    const std::lock_guard lock(heads_);
    decode_scratch& w = at(h);
    return ++w.ended == w.items;
  }
  decode_scratch& at(int h) const { return scratch_[static_cast<std::size_t>(h)]; }
  partial_state state(int h, int item) const {
    const int stride = padded(core_.shape.value_dim), rows = at(h).rows;
    float* p = at(h).states.data() + static_cast<std::ptrdiff_t>(item) * rows * (stride + 2);
    return {p, p + rows, p + 2 * rows, stride};
  }
  weight_record record(int h) const {
    decode_scratch& w = at(at(h).record);
    return {w.weights.data(), w.tile_maximum.data(), w.tile_rows.data(), at(h).rows};
  }
  static int tiles_of(int rows) { return (rows + soft_rows - 1) / soft_rows; }
  template <int R>
  static void rows_of(const decode_scratch& w, int first, int stride, const float* (&q)[R]) {
    for (int r = 0; r < R; ++r) q[r] = w.queries.data() + static_cast<std::ptrdiff_t>(first + r) * stride;
  }

  void prepare(int h, const view& q, const rows_type& head) {
    const model_shape& shape = core_.shape;
    const int group = shape.group(), stride = padded(shape.head_dim);
    decode_scratch& w = at(h);
    w.passes.clear();
    std::size_t lines = 0;
    for (w.rows = 0; w.rows < rows_; w.rows += w.passes.back().rows) {
      w.passes.push_back({w.rows, pass_rows(rows_ - w.rows), lines});
      const std::size_t bytes = keys::query_bytes(core_.format.keys, shape.head_dim, w.passes.back().rows);
      lines += (bytes + sizeof(decode_scratch::line) - 1) / sizeof(decode_scratch::line);
    }
    w.prepared.resize(lines);
    w.queries.assign(static_cast<std::size_t>(w.rows * stride), 0.0f);
    w.see.resize(static_cast<std::size_t>(w.rows));
    w.staged_position.resize(static_cast<std::size_t>(step_.n));
    for (int i = 0; i < step_.n; ++i) {
      const int own = step_.length + i;
      w.staged_position[static_cast<std::size_t>(i)] = own;
      for (int g = 0; g < group; ++g) {
        float* row = w.queries.data() + static_cast<std::ptrdiff_t>(i * group + g) * stride;
        q.load(i, h * group + g, row);
        for (int c = 0; c < shape.head_dim; ++c) row[c] *= shape.scale * log2_e;
        w.see[static_cast<std::size_t>(i * group + g)] = sight_from(own, step_.window, step_.sees_self);
      }
    }
    std::fill(w.see.begin() + rows_, w.see.end(), w.see[static_cast<std::size_t>(rows_ - 1)]);
    w.chosen = false;
    if constexpr (Core::read_type::selects)
      w.chosen = step_.n == 1 && choose_pages(core_.read, core_.format, head,
                                              {w.queries.data(), rows_, stride, shape.head_dim}, w.choice);
    w.pieces = (w.chosen ? static_cast<int>(w.choice.pages.size()) : head.pages()) * pieces_of_page;
    w.chunk = chunk_of(w.pieces);
    w.items = (w.pieces + w.chunk - 1) / w.chunk + 1;
    w.begun = w.ended = 0;
    w.tiles = tiles_of(w.pieces * piece_rows) + tiles_of(head.sinks()) + tiles_of(head.window()) + tiles_of(step_.n);
    w.states.resize(static_cast<std::size_t>(w.items * w.rows * (padded(shape.value_dim) + 2)));
    for (const auto& pass : w.passes)
      with_rows(pass.rows, [&]<int R>(std::integral_constant<int, R>) {
        const float* rows[R];
        rows_of<R>(w, pass.first, stride, rows);
        keys::template prepare<R>(core_.format.keys, rows, shape.head_dim, w.query_of(pass));
      });
  }

  /// Item i of head h: a chunk of packed pieces, or, last, all rows that are numbers.
  void work(int h, int i, const rows_type& head) const {
    const decode_scratch& w = at(h);
    const partial_state all = state(h, i);
    all.clear(w.rows);
    for (const auto& pass : w.passes)
      with_rows(pass.rows, [&]<int R>(std::integral_constant<int, R>) {
        weight_record all_weights;
        if constexpr (Core::needs_logits) all_weights = record(h).from(0, pass.first);
        const sight* see = w.see.data() + pass.first;
        const partial_state part = all.from(pass.first);
        if (i + 1 < w.items)
          attend_pieces<R>(
              core_.format, w.query_of(pass), i * w.chunk, std::min(w.pieces, (i + 1) * w.chunk), w.pieces,
              [&](int n, int count, row_piece* to) {
                for (int k = 0; k < count; ++k) to[k] = packed_piece(w, head, n + k);
              },
              see, part, all_weights.from(i * (w.chunk / tile_pieces)));
        else
          attend_rest<R>(w, head, h, pass.first, see, part, all_weights.from(tiles_of(w.pieces * piece_rows)));
      });
  }

  row_piece packed_piece(const decode_scratch& w, const rows_type& head, int i) const {
    const int n = i / pieces_of_page, p = w.chosen ? w.choice.pages[static_cast<std::size_t>(n)] : n;
    if constexpr (Core::read_type::selects)  // chosen pages lie anywhere
      if (w.chosen && i + tile_pieces < w.pieces) {
        const int later = w.choice.pages[static_cast<std::size_t>((i + tile_pieces) / pieces_of_page)];
        prefetch_addresses(head.page(later), core_.format.bytes());
        const int* at = head.position().data() + head.sinks() + later * page::rows;
        for (int t = 0; t < page::rows; t += 16) simd::prefetch(reinterpret_cast<const std::byte*>(at + t));
      }
    const int first = i % pieces_of_page * piece_rows, row = p * page::rows + first, index = head.sinks() + row;
    return {head.page(p),
            first,
            std::clamp(head.packed() - row, 0, piece_rows),
            head.position().data() + index,
            head.biases() ? head.biases() + index : nullptr,
            index};
  }

  template <int R>
  void attend_rest(const decode_scratch& w, const rows_type& head, int h, int first, const sight* see,
                   const partial_state& part, weight_record record) const {
    const int dk = core_.shape.head_dim, dv = core_.shape.value_dim;
    const float* q[R];
    rows_of<R>(w, first, padded(dk), q);
    const auto attend = [&]<class T>(const T* k, const T* v, int count, const int* position, const float* bias,
                                     int index) {
      attend_numbers<R, T>(q, {k, v, count, dk, dv, position, bias, index}, see, part, record);
      record = record.from(tiles_of(count));
    };
    const int* position = head.position().data();
    const float* bias = head.biases();
    const int packed_end = head.sinks() + head.packed();
    attend(head.sink_keys(), head.sink_values(), head.sinks(), position, bias, 0);
    attend(head.window_keys(), head.window_values(), head.window(), position + packed_end,
           bias ? bias + packed_end : nullptr, packed_end);
    const auto staged = static_cast<std::ptrdiff_t>(h) * step_.n;
    attend(step_.staged_keys + staged * dk, step_.staged_values + staged * dv, step_.n, w.staged_position.data(),
           nullptr, head.slots());
  }

  /// Merges the items' states in order, into the first; then divides.
  void finish(int h) const {
    decode_scratch& w = at(h);
    const partial_state first = state(h, 0);
    for (int i = 1; i + 1 < w.items; ++i) merge(first, state(h, i), w.rows);
    if (w.items > 1) {
      for (int r = 0; r < rows_; ++r) values::finish(core_.format.values, first.from(r).out, core_.shape.value_dim);
      merge(first, state(h, w.items - 1), w.rows);
    }
    for (int r = 0; r < rows_; ++r) {
      const bool empty = first.sum[r] == 0;
      const float inverse = empty ? 0.0f : 1.0f / first.sum[r];
      float* out = first.from(r).out;
      for (int c = 0; c < core_.shape.value_dim; ++c) out[c] *= inverse;
      first.maximum[r] = empty ? minus_infinity : first.maximum[r] + std::log2(first.sum[r]);
    }
  }

  const Core& core_;
  std::vector<decode_scratch>& scratch_;
  request step_;
  int rows_;
  std::mutex heads_;  // held while begun, ended, owner, record and lent are read or changed
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
