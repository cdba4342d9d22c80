// SPDX-License-Identifier: Apache-2.0
// The committed rows of one (sequence, slot, head), in order of position: sinks | packed pages | window.
//
// Every row has an index 0 .. slots()-1 over these three parts; columns (position, state, bias) are arrays over it. A
// packed row that leaves is marked dead (position -1) and attention skips it, until a page's worth has left
// (page_run.hpp). Verbs marked noexcept rely on room and pages reserved before, so that a commit cannot fail half way.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <tersekv/detail/function_ref.hpp>
#include <tersekv/detail/page_run.hpp>
#include <tersekv/number.hpp>
#include <tersekv/page_extremes.hpp>
#include <tersekv/page_format.hpp>
#include <tersekv/pool.hpp>

namespace tersekv {

inline constexpr int tile_rows = 128;  // rows that attention works on at a time

/// Up to tile_rows rows as numbers.
struct row_tile {
  int rows = 0;
  const float* keys = nullptr;    // [rows, key_dim]
  const float* values = nullptr;  // [rows, value_dim]
  const int* index = nullptr;     // [rows] row index, ascending; staged rows follow the committed ones
  const int* position = nullptr;  // [rows] -1 = dead
  const float* bias = nullptr;    // [rows] added to the logits; null = none
};

using tile_visitor = detail::function_ref<void(const row_tile&)>;
using tile_source = detail::function_ref<void(tile_visitor)>;  // calls the visitor for every tile

/// Memory to build tiles in.
struct tile_scratch {
  std::vector<float> keys, values, bias;
  std::vector<int> index, position;
  void prepare(int key_dim, int value_dim) {
    keys.resize(static_cast<std::size_t>(tile_rows * key_dim));
    values.resize(static_cast<std::size_t>(tile_rows * value_dim));
    bias.resize(tile_rows);
    index.resize(tile_rows);
    position.resize(tile_rows);
  }
};

/// Format = page_format<...>; Columns = floats of state per row; Biased = rows carry a logit bias.
template <class Format, int Columns, bool Biased>
class head_rows {
  static constexpr bool has_extremes = bounded_by_extremes<decltype(Format::read)>;
  struct no_extremes {
    explicit no_extremes(pool&) {}
    static std::size_t held() { return 0; }
  };

 public:
  explicit head_rows(pool& owner)
      : sink_keys_(owner), sink_values_(owner), window_keys_(owner), window_values_(owner), pages_(owner),
        extremes_(owner), position_(owner), state_(owner), bias_(owner) {}

  // ------------------------------------------------------------------------------------------------------------
  // reading
  int slots() const { return static_cast<int>(position_.size()); }
  int live() const { return slots() - dead_; }
  int packed() const { return packed_; }
  int sinks() const { return sinks_; }
  int window() const { return slots() - sinks_ - packed_; }
  int pages() const { return static_cast<int>(pages_.size()); }
  const std::byte* page(int p) const { return pages_[at(p)].data(); }
  /// Memory that is read to find page p.
  const std::byte* entry(int p) const { return reinterpret_cast<const std::byte*>(pages_.data() + p); }
  const std::byte* summary(const Format& f, int p) const { return f.summary(page(p)); }
  /// Of all pages but the newest, which is always read.
  const page_extremes& extremes() const requires has_extremes { return extremes_; }
  std::span<const int> position() const { return {position_.data(), position_.size()}; }
  std::span<float> state(int i) { return {state_.data() + at(i) * Columns, Columns}; }
  std::span<const float> state(int i) const { return {state_.data() + at(i) * Columns, Columns}; }
  float bias(int i) const { return Biased ? bias_[at(i)] : 0.0f; }
  const float* biases() const { return Biased ? bias_.data() : nullptr; }  // [slots]; null = none
  const half* sink_keys() const { return sink_keys_.data(); }              // [sinks, key_dim]; likewise the others
  const half* sink_values() const { return sink_values_.data(); }
  const half* window_keys() const { return window_keys_.data(); }
  const half* window_values() const { return window_values_.data(); }
  bool is_packed(int i) const { return i >= sinks_ && i < sinks_ + packed_; }

  /// Bytes of windows, sinks and columns; pages are counted by the pool.
  std::size_t buffer_bytes() const {
    return sink_keys_.held() + sink_values_.held() + window_keys_.held() + window_values_.held() + column_bytes();
  }
  std::size_t column_bytes() const {
    return pages_.held() + extremes_.held() + position_.held() + state_.held() + bias_.held();
  }

  /// Calls visit(row_tile) for the rows of every part, `pages` naming the pages to read (all when empty).
  void for_each_tile(const Format& format, tile_scratch& scratch, std::span<const int> pages, bool want_values,
                     tile_visitor visit) const {
    tile_builder build{*this, format, scratch, want_values, visit};
    build.dense(sink_keys_, sink_values_, 0, sinks_);
    if (pages.empty()) {
      for (int p = 0; p < this->pages(); ++p) build.page(p);
    } else {
      for (const int p : pages) build.page(p);
    }
    build.flush();
    build.dense(window_keys_, window_values_, sinks_ + packed_, window());
    build.flush();
  }

  // ------------------------------------------------------------------------------------------------- room, may throw
  /// Room for `more` rows in the columns, `sinks` and `window` rows in all in the dense parts, `pages` more pages.
  void reserve(const Format& f, int more, int sinks, int window, int pages) {
    const auto room = [](auto& b, std::size_t rows, std::size_t per_row) {
      if (b.capacity() < rows * per_row) b.reserve((rows + step(rows)) * per_row);
    };
    room(position_, at(slots() + more), 1);
    if (Columns > 0) room(state_, at(slots() + more), Columns);
    if (Biased) room(bias_, at(slots() + more), 1);
    room(pages_, at(this->pages() + pages), 1);
    if constexpr (has_extremes) extremes_.reserve(this->pages() + pages - 1, f.key_dim);
    const auto dense = [](buffer<half>& b, int rows, int dim) {
      if (b.capacity() < at(rows * dim)) b.reserve(at((rows + 7) / 8 * 8 * dim));
    };
    dense(sink_keys_, sinks, f.key_dim);
    dense(sink_values_, sinks, f.value_dim);
    dense(window_keys_, window, f.key_dim);
    dense(window_values_, window, f.value_dim);
  }
  /// Pages to reserve before `rows` more rows are packed: new ones, and a copy of a shared unfinished one.
  int pages_to_pack(int rows) const {
    if (rows <= 0) return 0;
    const int used = packed_ % Format::rows, free = used == 0 ? 0 : Format::rows - used;
    const int fresh = (std::max(0, rows - free) + Format::rows - 1) / Format::rows;
    return fresh + (used != 0 && !pages_.back().alone() ? 1 : 0);
  }
  /// Whether the page of row i is shared with another sequence.
  bool shared(int i) const { return is_packed(i) && !pages_[at((i - sinks_) / Format::rows)].alone(); }
  int page_of(int i) const { return (i - sinks_) / Format::rows; }

  // ----------------------------------------------------------------------------------------------- changing, no
  // failure
  /// Columns of a new row, behind all others; its numbers follow by pack() or push_window().
  void push_columns(int position, const float* state) noexcept {
    position_.push_back(position);
    if constexpr (Columns > 0) state_.append(state, Columns);
    if (Biased) bias_.push_back(0.0f);
  }
  /// A new sink row: columns and numbers. Sinks come before everything else.
  void push_sink(const Format& f, const float* k, const float* v, int position, const float* state) noexcept {
    push_dense(sink_keys_, sink_values_, f, k, v);
    push_columns(position, state);
    std::rotate(position_.begin() + sinks_, position_.end() - 1, position_.end());
    std::rotate(state_.begin() + sinks_ * Columns, state_.end() - Columns, state_.end());
    if (Biased) std::rotate(bias_.begin() + sinks_, bias_.end() - 1, bias_.end());
    ++sinks_;
  }
  /// The numbers of a new window row.
  void push_window(const Format& f, const float* k, const float* v) noexcept {
    push_dense(window_keys_, window_values_, f, k, v);
  }
  int window_numbers(const Format& f) const { return static_cast<int>(window_keys_.size()) / f.key_dim; }
  /// `count` window rows from the `first` oldest on, as floats.
  void take_window(const Format& f, int first, int count, float* k, float* v) const noexcept {
    if (count == 0) return;  // the window may be empty, without memory of its own
    widen(window_keys_.data() + at(first * f.key_dim), count * f.key_dim, k);
    widen(window_values_.data() + at(first * f.value_dim), count * f.value_dim, v);
  }
  /// The oldest window rows were packed: their columns stay, their full-precision numbers go.
  void forget_window(const Format& f, int count) noexcept {
    window_keys_.erase(0, at(count * f.key_dim));
    window_values_.erase(0, at(count * f.value_dim));
  }
  /// Packs rows behind the packed part; their columns are there already. count is a multiple of span.
  void pack(pool& owner, const Format& f, const float* k, const float* v, int count) noexcept {
    while (count > 0) {
      const int used = packed_ % Format::rows;
      if (used == 0) {
        pages_.push_back(page_ref(owner));
        note_extremes(f, pages() - 2);
        std::memset(pages_.back().data(), 0,
                    f.bytes() - page_ref::overhead);  // kernels read rows that are not there yet
      } else {
        own_page(owner, f, pages() - 1);
      }
      const int now = std::min(count, Format::rows - used);
      f.encode(pages_.back().data(), used, now, k, v);
      packed_ += now, count -= now, k += now * f.key_dim, v += now * f.value_dim;
    }
  }
  /// Row i becomes k, v. Packed rows: only where the format writes each row alone; shared pages are copied first.
  void rewrite(pool& owner, const Format& f, int i, const float* k, const float* v) noexcept {
    if (i < sinks_) return write_dense(sink_keys_, sink_values_, f, i, k, v);
    if (!is_packed(i)) return write_dense(window_keys_, window_values_, f, i - sinks_ - packed_, k, v);
    const int p = page_of(i);
    own_page(owner, f, p);
    f.encode(pages_[at(p)].data(), (i - sinks_) % Format::rows, 1, k, v);
    resummarize(f, p);
  }
  void set_bias(int i, float bias) noexcept {
    if (Biased) bias_[at(i)] = bias;
  }
  /// Rows leave; `indices` ascending. Dense rows are removed, packed rows are marked dead.
  void remove(const Format& f, std::span<const int> indices) noexcept {
    for (std::size_t n = indices.size(); n-- > 0;) {
      const int i = indices[n];
      if (is_packed(i)) {
        position_[at(i)] = -1;
        ++dead_;
        continue;
      }
      const bool sink = i < sinks_;
      const int r = sink ? i : i - sinks_ - packed_;
      (sink ? sink_keys_ : window_keys_).erase(at(r * f.key_dim), at(f.key_dim));
      (sink ? sink_values_ : window_values_).erase(at(r * f.value_dim), at(f.value_dim));
      erase_columns(i, 1);
      if (sink) --sinks_;
    }
  }
  /// Frees what dead rows hold, after `left` rows left: pages without a live row; then, where each row is written
  /// alone, moves rows together bit for bit as detail::run_to_close has it; where groups span rows and may be reopened,
  /// joins neighbours that fit in one page (decode, encode). Best effort: a pool that refuses pages leaves the rows
  /// where they are.
  void compact(pool& owner, const Format& f, int left) noexcept {
    if (dead_ == 0 || (left <= Format::rows && dead_ < Format::rows)) return;
    for (int p = pages() - 1; p >= 0; --p)
      if (live_in(p) == 0) drop_page(f, p);
    if constexpr (Format::span == 1) {
      const auto run = detail::run_to_close(pages(), Format::rows, packed_, dead_, left,
                                            [&](int p) { return filled(p) - live_in(p); });
      if (run.pages() > 0) close_holes(owner, f, run);
    } else if constexpr (Format::key_format::opens && Format::value_format::opens) {
      for (int p = 0; p + 1 < pages();) {
        if (live_in(p) + live_in(p + 1) <= Format::rows && filled(p + 1) == Format::rows)
          join(owner, f, p);
        else
          ++p;
      }
    }
  }
  /// Gives back room after `left` rows left: all that is unused after a large trim; while single rows come and go, only
  /// what exceeds two steps of growth.
  void fit(int left) noexcept {
    const std::size_t n = position_.size();
    const auto shrink = [&](auto& b, std::size_t size, std::size_t per_row) {
      const std::size_t slack = left > Format::rows ? 0 : 2 * step(size);
      if (b.capacity() > (size + slack) * per_row) b.fit((size + slack / 2) * per_row);
    };
    shrink(position_, n, 1);
    if (Columns > 0) shrink(state_, n, Columns);
    if (Biased) shrink(bias_, n, 1);
    shrink(pages_, pages_.size(), 1);
    if constexpr (has_extremes) extremes_.fit(left > Format::rows);
    if (left > Format::rows)
      for (buffer<half>* b : {&sink_keys_, &sink_values_, &window_keys_, &window_values_}) b->fit(b->size());
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  /// Rows by which columns grow.
  static std::size_t step(std::size_t rows) { return Format::rows + rows / 64; }
  int filled(int p) const { return std::min(Format::rows, packed_ - p * Format::rows); }
  int live_in(int p) const {
    const int* first = position_.data() + sinks_ + p * Format::rows;
    return static_cast<int>(std::count_if(first, first + filled(p), [](int x) { return x >= 0; }));
  }
  void push_dense(buffer<half>& keys, buffer<half>& values, const Format& f, const float* k, const float* v) noexcept {
    keys.resize(keys.size() + at(f.key_dim));
    values.resize(values.size() + at(f.value_dim));
    narrow(k, f.key_dim, keys.end() - f.key_dim);
    narrow(v, f.value_dim, values.end() - f.value_dim);
  }
  void write_dense(buffer<half>& keys, buffer<half>& values, const Format& f, int r, const float* k,
                   const float* v) noexcept {
    narrow(k, f.key_dim, keys.data() + at(r * f.key_dim));
    narrow(v, f.value_dim, values.data() + at(r * f.value_dim));
  }
  void erase_columns(int i, int count) noexcept {
    position_.erase(at(i), at(count));
    state_.erase(at(i) * Columns, at(count) * Columns);
    if (Biased) bias_.erase(at(i), at(count));
  }
  void move_columns(int to, int from) noexcept {
    position_[at(to)] = position_[at(from)];
    for (int c = 0; c < Columns; ++c) state_[at(to) * Columns + at(c)] = state_[at(from) * Columns + at(c)];
    if (Biased) bias_[at(to)] = bias_[at(from)];
  }
  /// Copies page p when it is shared. The copy was reserved before.
  void own_page(pool& owner, const Format& f, int p) noexcept {
    if (pages_[at(p)].alone()) return;
    page_ref copy(owner);
    std::memcpy(copy.data(), pages_[at(p)].data(), f.bytes() - page_ref::overhead);
    pages_[at(p)] = std::move(copy);
  }
  void drop_page(const Format& f, int p) noexcept {
    const int count = filled(p);
    erase_columns(sinks_ + p * Format::rows, count);
    erase_pages(f, p, 1);
    packed_ -= count;
    dead_ -= count;
  }
  void erase_pages(const Format& f, int first, int count) noexcept {
    if constexpr (has_extremes) extremes_.erase(first, count, pages(), f.key_dim);
    pages_.erase(at(first), at(count));
  }
  /// After every change of page p's summary, and when another page follows it.
  void note_extremes([[maybe_unused]] const Format& f, [[maybe_unused]] int p) noexcept {
    if constexpr (has_extremes) {
      if (p < 0 || p + 1 >= pages()) return;
      extremes_.set(f.read, p, f.summary(page(p)), f.key_dim);
      if (p + 1 == page_extremes::pages)
        extremes_.centre(
            f.read, [&](int i) { return summary(f, i); }, f.key_dim);
    }
  }
  void resummarize(const Format& f, int p) noexcept {
    if constexpr (Format::summarizes) {
      std::array<float, Format::largest_dim> k;
      std::byte* page = pages_[at(p)].data();
      bool fresh = true;
      for (int r = 0; r < filled(p); ++r) {
        if (position_[at(sinks_ + p * Format::rows + r)] < 0) continue;
        f.decode_keys(page, r, 1, k.data());
        f.read.summarize(f.summary(page), k.data(), 1, f.key_dim, fresh);
        fresh = false;
      }
      note_extremes(f, p);
    }
  }

  /// Moves live packed rows of some pages over dead ones; pages without rows go. Shared ones are copied first. What is
  /// left over stays as dead rows at the end of the last page, which only a head's own last page does not need.
  void close_holes(pool& owner, const Format& f, detail::page_run run) noexcept {
    const int first = run.first * Format::rows, behind = std::min((run.last + 1) * Format::rows, packed_);
    const int stay = run.first + (behind - first - run.dead + Format::rows - 1) / Format::rows;  // pages below it stay
    int copies = 0;
    for (int p = run.first; p < stay; ++p) copies += pages_[at(p)].alone() ? 0 : 1;
    try {
      owner.reserve(at(copies));
    } catch (...) {
      return;
    }
    for (int p = run.first; p < stay; ++p) own_page(owner, f, p);
    int to = first;
    for (int from = first; from < behind; ++from) {
      if (position_[at(sinks_ + from)] < 0) continue;
      if (to != from) {
        f.move(pages_[at(to / Format::rows)].data(), to % Format::rows, pages_[at(from / Format::rows)].data(),
               from % Format::rows);
        move_columns(sinks_ + to, sinks_ + from);
      }
      ++to;
    }
    if (run.last < pages() - 1)
      for (; to < stay * Format::rows; ++to) position_[at(sinks_ + to)] = -1;
    erase_columns(sinks_ + to, behind - to);
    erase_pages(f, stay, run.last + 1 - stay);
    packed_ -= behind - to, dead_ -= behind - to;
    for (int p = run.first; p < stay; ++p) resummarize(f, p);
  }

  /// Pages p and p + 1 become one; unused rows of it are dead copies of its last row.
  void join(pool& owner, const Format& f, int p) noexcept {
    try {
      std::vector<float> k(at(Format::rows * f.key_dim)), v(at(Format::rows * f.value_dim));
      owner.reserve(1);
      page_ref fresh(owner);
      int to = 0;
      const int base = sinks_ + p * Format::rows;
      for (int from = 0; from < 2 * Format::rows; ++from) {
        if (position_[at(base + from)] < 0) continue;
        const std::byte* page = pages_[at(p + from / Format::rows)].data();
        f.decode_keys(page, from % Format::rows, 1, k.data() + to * f.key_dim);
        f.decode_values(page, from % Format::rows, 1, v.data() + to * f.value_dim);
        move_columns(base + to, base + from);
        ++to;
      }
      dead_ -= Format::rows;
      for (int r = to; r < Format::rows; ++r) {
        std::copy_n(k.data() + (to - 1) * f.key_dim, f.key_dim, k.data() + r * f.key_dim);
        std::copy_n(v.data() + (to - 1) * f.value_dim, f.value_dim, v.data() + r * f.value_dim);
        position_[at(base + r)] = -1;
      }
      f.encode(fresh.data(), 0, Format::rows, k.data(), v.data());
      pages_[at(p)] = std::move(fresh);
      erase_columns(base + Format::rows, Format::rows);
      erase_pages(f, p + 1, 1);
      note_extremes(f, p);
      packed_ -= Format::rows;
    } catch (...) {  // no memory for it: the rows stay where they are
    }
  }

  struct tile_builder {
    const head_rows& head;
    const Format& format;
    tile_scratch& scratch;
    bool want_values;
    tile_visitor visit;
    int rows = 0;

    void columns(int first, int count) {
      for (int r = 0; r < count; ++r) {
        scratch.index[at(rows + r)] = first + r;
        scratch.position[at(rows + r)] = head.position_[at(first + r)];
        if (Biased) scratch.bias[at(rows + r)] = head.bias_[at(first + r)];
      }
      rows += count;
    }
    void dense(const buffer<half>& keys, const buffer<half>& values, int first, int count) {
      for (int r = 0; r < count;) {
        const int now = std::min(count - r, tile_rows - rows);
        widen(keys.data() + at(r * format.key_dim), now * format.key_dim, scratch.keys.data() + rows * format.key_dim);
        if (want_values)
          widen(values.data() + at(r * format.value_dim), now * format.value_dim,
                scratch.values.data() + rows * format.value_dim);
        columns(first + r, now);
        r += now;
        if (rows == tile_rows) flush();
      }
    }
    void page(int p) {
      const int count = head.filled(p);
      for (int r = 0; r < count;) {
        const int now = std::min(count - r, tile_rows - rows);
        const std::byte* bytes = head.page(p);
        format.decode_keys(bytes, r, now, scratch.keys.data() + rows * format.key_dim);
        if (want_values) format.decode_values(bytes, r, now, scratch.values.data() + rows * format.value_dim);
        columns(head.sinks_ + p * Format::rows + r, now);
        r += now;
        if (rows == tile_rows) flush();
      }
    }
    void flush() {
      if (rows == 0) return;
      visit(row_tile{rows, scratch.keys.data(), scratch.values.data(), scratch.index.data(), scratch.position.data(),
                     Biased ? scratch.bias.data() : nullptr});
      rows = 0;
    }
  };

  buffer<half> sink_keys_, sink_values_;      // [sinks, dim]
  buffer<half> window_keys_, window_values_;  // [window, dim]
  buffer<page_ref> pages_;
  std::conditional_t<has_extremes, page_extremes, no_extremes> extremes_;
  buffer<int> position_;  // [slots] -1 = dead
  buffer<float> state_;   // [slots, Columns]
  buffer<float> bias_;    // [slots]
  int sinks_ = 0, packed_ = 0, dead_ = 0;
};

}  // namespace tersekv
