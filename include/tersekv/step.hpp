// SPDX-License-Identifier: Apache-2.0
// A transaction over n new tokens of one sequence:
//
//   append   rows enter the step's staging area, full precision; may be repeated, the last one counts
//   attend   queries meet the committed rows and the staged ones; signals are written down
//   commit   staged rows become permanent; rows leave, are folded and packed here, and only here (commit.hpp)
//
// A step destroyed without commit leaves the sequence exactly as it was. A verb that throws has changed nothing.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <tersekv/commit.hpp>
#include <tersekv/sequence.hpp>
#include <tersekv/step_checks.hpp>

namespace tersekv {

namespace detail {
template <class Core>
class step_batch;
}

template <class Core>
class basic_step {
 public:
  using batch = detail::step_batch<Core>;

  basic_step(basic_sequence<Core>& sequence, int n, step_options options)
      : sequence_(sequence), core_(*sequence.core_), check_(core_.shape, core_.plan, n, options.question), n_(n),
        options_(options) {
    sequence.require_closed("step");
    work_ = core_.borrow();
    prepare();
    sequence.open_ = true;
  }
  basic_step(const basic_step&) = delete;
  basic_step& operator=(const basic_step&) = delete;
  ~basic_step() { close(); }

  int tokens() const { return n_; }

  /// Rows of a layer that owns a slot: k [n, kv_heads, head_dim] rotated by the engine, v [n, kv_heads, value_dim].
  /// Errors  usage_error: the layer owns no slot; shape_error; value_error: NaN or infinity
  void append(int layer, const view& k, const view& v) {
    check_append(layer, k, v);
    stage(layer, k, v);
  }

  /// q [n, query_heads, head_dim], out [n, query_heads, value_dim]; log_sum_exp [n, query_heads] or empty. A query over
  /// no rows gives zeros and -inf.
  /// Errors  usage_error: the layer reads rows that were not appended; shape_error; value_error
  void attend(int layer, const view& q, const view& out, std::span<float> log_sum_exp = {}) {
    detail::require_open(work_ != nullptr, "attend");
    check_.attend(layer, q, out, log_sum_exp.size());
    const model_shape& shape = core_.shape;
    const int slot = core_.plan.slot(layer);
    check_.staged(layer, work_->staged[static_cast<std::size_t>(slot)] != 0);
    check_finite("attend", "q", layer, q);
    detail::begin_signals(core_, *work_, sequence_, layer, n_);
    if (detail::attends_packed<Core>(shape, n_))
      attend_packed(layer, slot, q, out, log_sum_exp);
    else
      attend_tiles(layer, slot, q, out, log_sum_exp);
    if constexpr (Core::needs_window) window_of(n_).keep_queries(layer, q);
  }

  /// How much the rows of an owning layer changed between its last two appends: max |new - old| / max |new|.
  /// Errors  usage_error: the step has ended
  float change(int layer) const {
    detail::require_open(work_ != nullptr, "change");
    check_.change(layer);
    return work_->change[static_cast<std::size_t>(core_.plan.written_slot(layer))];
  }

  void commit() { commit(n_); }
  /// Keeps the first `accepted` of the n tokens and ends the step.
  /// Errors  usage_error: a slot was not appended; capacity_error: the pool is full (the step is still open and whole)
  void commit(int accepted) {
    check_commit(accepted);
    if (accepted > 0) {
      job one = commit_of(accepted);
      job::run(core_, std::span<job>(&one, 1));
    }
    close();
  }

 private:
  friend class detail::step_batch<Core>;
  using job = detail::commit_job<Core, basic_sequence<Core>>;
  using window = detail::newest_queries<Core, basic_sequence<Core>>;

  void check_append(int layer, const view& k, const view& v) {
    detail::require_open(work_ != nullptr, "append");
    check_.append(layer, k, v);
    check_finite("append", "k", layer, k);
    check_finite("append", "v", layer, v);
  }
  void stage(int layer, const view& k, const view& v) noexcept {
    const model_shape& shape = core_.shape;
    const auto slot = static_cast<std::size_t>(core_.plan.written_slot(layer));
    float largest = 0, moved = 0;
    const auto copy = [&](const view& from, std::vector<float>& to, int dim) {
      std::vector<float>& row = work_->row;
      row.resize(static_cast<std::size_t>(dim));
      for (int h = 0; h < shape.kv_heads; ++h)
        for (int t = 0; t < n_; ++t) {
          float* out = to.data() + (static_cast<std::ptrdiff_t>(h) * n_ + t) * dim;
          from.load(t, h, row.data());
          for (int c = 0; c < dim; ++c) {
            const float x = row[static_cast<std::size_t>(c)];
            largest = std::max(largest, std::abs(x));
            moved = std::max(moved, std::abs(x - out[c]));
            out[c] = x;
          }
        }
    };
    copy(k, work_->keys[slot], shape.head_dim);
    copy(v, work_->values[slot], shape.value_dim);
    work_->change[slot] = !work_->staged[slot] ? 1.0f : moved == 0 ? 0.0f : largest > 0 ? moved / largest : 1.0f;
    work_->staged[slot] = 1;
    if constexpr (Core::needs_window)
      for (int other = 0; other < shape.layers; ++other)  // what they looked at was replaced
        if (core_.plan.slot(other) == core_.plan.written_slot(layer))
          work_->window_mass[static_cast<std::size_t>(other)].forget();
  }
  void check_commit(int accepted) const {
    detail::require_open(work_ != nullptr, "commit");
    check_.commit(accepted, work_->staged);
  }
  detail::commit_request request(int accepted) const {
    return {n_, accepted, observed(n_), observed(accepted), options_.more, options_.decode};
  }
  job commit_of(int accepted) { return job(core_, *work_, sequence_, request(accepted)); }
  window window_of(int accepted) { return window(core_, *work_, sequence_, request(accepted)); }

  /// Queries that policies may look at, when `accepted` tokens count.
  int observed(int accepted) const { return std::max(0, std::min(n_ - options_.question, accepted)); }

  void close() noexcept {
    if (!work_) return;
    core_.give_back(std::move(work_));
    sequence_.open_ = false;
  }
  void check_finite(const char* verb, const char* what, int layer, const view& x) {
    std::vector<float>& row = work_->row;
    row.resize(static_cast<std::size_t>(x.dim()));
    for (int t = 0; t < x.rows(); ++t)
      for (int h = 0; h < x.heads(); ++h) {
        x.load(t, h, row.data());
        if (!all_finite(row.data(), x.dim()))
          throw value_error(std::string("tersekv::step::") + verb + ": " + what + " of layer " + std::to_string(layer) +
                            " has NaN or infinity in token " + std::to_string(t) + " of the step, head " +
                            std::to_string(h));
      }
  }

  void prepare() {
    const model_shape& shape = core_.shape;
    const auto slots = static_cast<std::size_t>(core_.plan.slots());
    const auto heads = static_cast<std::size_t>(shape.kv_heads);
    work_->keys.resize(slots), work_->values.resize(slots);
    work_->staged.assign(slots, 0), work_->change.assign(slots, 1.0f);
    work_->mass.resize(static_cast<std::size_t>(shape.layers)),
        work_->queries.resize(static_cast<std::size_t>(shape.layers));
    work_->window_mass.resize(static_cast<std::size_t>(shape.layers));
    for (auto* masses : {&work_->mass, &work_->window_mass})
      for (auto& m : *masses) m.forget();
    for (auto& q : work_->queries) q.clear();
    work_->trims.resize(heads), work_->plans.resize(slots * heads);
    const auto rows = heads * static_cast<std::size_t>(n_);
    for (std::size_t s = 0; s < slots; ++s) {  // zero is what upward readers see in the first pass
      work_->keys[s].assign(rows * static_cast<std::size_t>(shape.head_dim), 0.0f);
      work_->values[s].assign(rows * static_cast<std::size_t>(shape.value_dim), 0.0f);
    }
  }

  /// Few queries: straight from packed pages.
  void attend_packed(int layer, int slot, const view& q, const view& out, std::span<float> log_sum_exp) {
    if constexpr (!Core::renumbers) {
      const auto s = static_cast<std::size_t>(slot);
      detail::decode_attention<Core> attention(
          core_, work_->decode,
          {n_, sequence_.length_, core_.plan.window(layer), core_.plan.sees_self(layer), work_->keys[s].data(),
           work_->values[s].data()});
      const auto head = [&](int h) -> const auto& { return std::as_const(sequence_).at(slot, h); };
      attention.run(q, head, [&](int h) {
        store(
            h, 0, n_, out, log_sum_exp, [&](int r) { return attention.output(h, r); },
            [&](int r) { return attention.log2_sum(h, r) * detail::ln_2; });
        if constexpr (Core::needs_logits) detail::record_packed_mass(core_, *work_, attention, layer, h, observed(n_));
      });
    }
  }

  /// Many queries: tiles of decoded rows, once per block of queries. Blocks of all heads are spread over the threads.
  void attend_tiles(int layer, int slot, const view& q, const view& out, std::span<float> log_sum_exp) {
    const int heads = core_.shape.kv_heads;
    const int tokens = std::max(1, (Core::needs_logits ? 64 : 256) / core_.shape.group());
    const int blocks = (n_ + tokens - 1) / tokens;
    const int lanes = Core::needs_logits ? std::min(blocks, detail::mass_lanes) : blocks;
    detail::clear_mass(core_, *work_, layer, n_);
    window newest = window_of(n_);
    newest.begin(layer, tokens, job::may_trim(core_, sequence_, request(n_), slot));
    core_.backend.for_each(heads * lanes, [&](int i) {
      const int h = i % heads, lane = lanes - 1 - i / heads;  // the last blocks see most rows
      auto scratch = work_->blocks.borrow();
      const auto& head = std::as_const(sequence_).at(slot, h);
      detail::head_source<Core> source(core_, *work_, head, slot, h, n_, sequence_.length_, *scratch);
      for (int b = lane; b < blocks; b += lanes) {
        const int first = b * tokens, last = std::min(n_, first + tokens);
        [[maybe_unused]] const attend_block block = attend_tokens(
            source, *scratch, layer, h, first, last, newest.first_wanted(first, last), q, out, log_sum_exp);
        if constexpr (Core::needs_window) newest.note(block, layer, h, b, first, last);
        if constexpr (Core::needs_logits)
          detail::record_mass(core_, *work_, block, layer, h, lane, first, last, n_, observed(n_));
      }
      work_->blocks.give_back(std::move(scratch));
    });
    if constexpr (Core::needs_logits)
      if (n_ > detail::separate_queries)
        core_.backend.for_each(heads, [&](int h) { detail::add_lanes<Core>(*work_, layer, h); });
  }

  /// Tokens first .. last of the step, head h; the window wants logits of those from `wanted` on.
  template <class Source, class Scratch>
  attend_block attend_tokens(Source& source, Scratch& w, int layer, int h, int first, int last, int wanted,
                             const view& q, const view& out, std::span<float> log_sum_exp) {
    const model_shape& shape = core_.shape;
    const int group = shape.group(), dim = shape.head_dim;
    attend_block block;
    block.count = (last - first) * group;
    block.key_dim = dim, block.value_dim = shape.value_dim;
    block.window = core_.plan.window(layer);
    block.sees_self = core_.plan.sees_self(layer);
    const auto count = static_cast<std::size_t>(block.count);
    w.queries.resize(count * static_cast<std::size_t>(dim));
    w.query_position.resize(count);
    w.out.resize(count * static_cast<std::size_t>(shape.value_dim));
    w.log_sum_exp.resize(count);
    block.queries = w.queries.data(), block.position = w.query_position.data();
    block.out = w.out.data(), block.log_sum_exp = w.log_sum_exp.data();
    for (int i = first; i < last; ++i)
      for (int g = 0; g < group; ++g) {
        const int r = (i - first) * group + g;
        float* row = w.queries.data() + r * dim;
        q.load(i, h * group + g, row);
        for (int c = 0; c < dim; ++c) row[c] *= shape.scale;
        w.query_position[static_cast<std::size_t>(r)] = sequence_.length_ + i;
      }
    source.attend(block, last, Core::needs_logits ? 0 : (wanted - first) * group, true);
    store(
        h, first, last, out, log_sum_exp, [&](int r) { return w.out.data() + r * shape.value_dim; },
        [&](int r) { return w.log_sum_exp[static_cast<std::size_t>(r)]; });
    return block;
  }

  /// What tokens first .. last of head h gave: row_of(r) [value_dim] and log_of(r) of query row r, counted from
  /// `first`.
  template <class Row, class Log>
  void store(int h, int first, int last, const view& out, std::span<float> log_sum_exp, Row&& row_of,
             Log&& log_of) const {
    const int group = core_.shape.group();
    for (int i = first; i < last; ++i)
      for (int g = 0; g < group; ++g) {
        const int r = (i - first) * group + g, head = h * group + g;
        out.store(i, head, row_of(r));
        if (!log_sum_exp.empty()) log_sum_exp[static_cast<std::size_t>(i * core_.shape.query_heads + head)] = log_of(r);
      }
  }

  basic_sequence<Core>& sequence_;
  Core& core_;
  detail::step_checks check_;
  int n_;
  step_options options_;
  std::unique_ptr<typename Core::workspace> work_;
};

}  // namespace tersekv
