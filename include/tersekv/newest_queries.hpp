// SPDX-License-Identifier: Apache-2.0
// The newest queries, for policies that look at a window of them, and the attention that these pay to every row. Where
// a step ends in a trim and holds the whole window, its queries leave that attention behind while they attend;
// otherwise it is computed at commit, from the queries that this step and earlier ones kept. Nothing of it exists in
// other recipes.
#pragma once
#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include <tersekv/commit_request.hpp>
#include <tersekv/signals.hpp>

namespace tersekv::detail {

template <class Core, class Sequence>
class newest_queries {
  using workspace = typename Core::workspace;

 public:
  newest_queries(Core& core, workspace& work, Sequence& sequence, const commit_request& request)
      : core_(core), work_(work), sequence_(sequence), request_(request), ring_(core.memory) {
    if constexpr (!Core::needs_window) return;
    first_kept_ = request.kept - kept_queries(core.query_window(), request.tokens, request.kept);
    own_ = std::max(0, std::min(request.observed - first_kept_, core.query_window()));
    older_ = std::min(sequence.ring_queries_, core.query_window() - own_);
  }

  int queries() const { return own_ + older_; }

  // ----------------------------------------------------------------------------------------------------------- attend
  /// Keeps the newest observed queries of a layer, [queries, query_heads, key_dim], not scaled.
  void keep_queries(int layer, const view& q) {
    const int count = request_.kept - first_kept_, heads = core_.shape.query_heads, dim = core_.shape.head_dim;
    std::vector<float>& to = work_.queries[at(layer)];
    to.resize(at(count * heads * dim));
    for (int i = 0; i < count; ++i)
      for (int h = 0; h < heads; ++h)
        q.load(first_kept_ + i, h, to.data() + (static_cast<std::ptrdiff_t>(i) * heads + h) * dim);
  }

  /// Before blocks of `tokens` queries attend; `wanted`: the step may end in a trim.
  void begin(int layer, int tokens, bool wanted) {
    if constexpr (Core::needs_window) {
      layer_mass& seen = work_.window_mass[at(layer)];
      from_ = request_.tokens;
      if (!wanted || own_ == 0 || older_ > 0) return;
      from_ = request_.observed - own_;
      first_block_ = from_ / tokens;
      seen.begin(core_.shape.kv_heads, (request_.observed - 1) / tokens - first_block_ + 1,
                 signal_stride(core_, sequence_, core_.plan.slot(layer), request_.tokens));
    }
  }
  /// Of the tokens first .. last of the step, the first whose logits are wanted; last when none are.
  int first_wanted(int first, int last) const {
    if constexpr (Core::needs_window)
      if (first < request_.observed) return std::clamp(from_, first, last);
    return last;
  }
  /// Writes down what block number b looked at: tokens first .. last of the step.
  void note(const attend_block& block, int layer, int h, int b, int first, int last) {
    const int from = first_wanted(first, last), to = std::min(last, request_.observed), group = core_.shape.group();
    if (from >= to) return;
    const std::span<float> mass = work_.window_mass[at(layer)].row(h, b - first_block_);
    std::fill(mass.begin(), mass.end(), 0.0f);
    Core::backend_type::column_mass(block, (from - first) * group, (to - first) * group, weight(), mass.data());
  }

  // ----------------------------------------------------------------------------------------------------------- commit
  /// to[i] = attention of the window's queries to row index rows[i], mean over the group, summed over the layers that
  /// read the slot.
  void attention(int s, int h, const std::vector<int>& rows, std::vector<float>& to) {
    std::vector<float> mass(at(sequence_.slots_of(s, h) + request_.tokens), 0.0f);
    for (int layer = 0; layer < core_.shape.layers && queries() > 0; ++layer) {
      if (core_.plan.slot(layer) != s || work_.queries[at(layer)].empty()) continue;
      const layer_mass& seen = work_.window_mass[at(layer)];
      if (seen.empty() || request_.accepted < request_.tokens) {
        look(layer, s, h, mass.data());
        continue;
      }
      for (int part = 0; part < seen.rows(); ++part)
        for (std::size_t i = 0; i < mass.size(); ++i) mass[i] += seen.row(h, part)[i];
    }
    for (const int i : rows) to.push_back(mass[at(i)]);
  }

  /// The queries that later trims of this prompt, or of decoding, may need; none when none will.
  void keep() {
    if constexpr (Core::needs_window) {
      if (!request_.more && trigger(core_.evict.when).every == 0) return;
      const auto per_layer = at(core_.shape.query_heads * core_.shape.head_dim);
      const auto per_token = at(core_.shape.layers) * per_layer;
      ring_queries_ = queries();
      ring_.reserve(at(ring_queries_) * per_token);
      ring_.append(sequence_.ring_.data() + at(sequence_.ring_queries_ - older_) * per_token, at(older_) * per_token);
      for (int i = request_.observed - own_; i < request_.observed; ++i)
        for (int layer = 0; layer < core_.shape.layers; ++layer) {
          const std::vector<float>& q = work_.queries[at(layer)];
          for (std::size_t c = 0; c < per_layer; ++c)
            ring_.push_back(q.empty() ? half{} : from_float<half>(q[at(i - first_kept_) * per_layer + c]));
        }
      ring_position_ = sequence_.length_ + request_.observed - ring_queries_;
    }
  }
  /// They become the sequence's.
  void hand_over() noexcept {
    sequence_.ring_ = std::move(ring_);
    sequence_.ring_queries_ = ring_queries_;
    sequence_.ring_position_ = ring_position_;
  }

 private:
  static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
  float weight() const { return 1.0f / static_cast<float>(core_.shape.group()); }

  /// Attention of the queries that were kept: those of earlier chunks, then those of this step.
  void look(int layer, int s, int h, float* mass) {
    const model_shape& shape = core_.shape;
    const int group = shape.group(), dim = shape.head_dim;
    auto scratch = work_.blocks.borrow();
    auto& w = *scratch;
    w.queries.clear(), w.query_position.clear();
    const auto add = [&](const auto* row, int position) {
      const std::size_t first = w.queries.size(), count = at(group * dim);
      w.queries.resize(first + count);
      for (std::size_t c = 0; c < count; ++c) w.queries[first + c] = to_float(row[at(h) * count + c]) * shape.scale;
      w.query_position.insert(w.query_position.end(), at(group), position);
    };
    const auto per_token = static_cast<std::ptrdiff_t>(shape.query_heads) * dim;
    for (int i = sequence_.ring_queries_ - older_; i < sequence_.ring_queries_; ++i)
      add(sequence_.ring_.data() + (static_cast<std::ptrdiff_t>(i) * shape.layers + layer) * per_token,
          sequence_.ring_position_ + i);
    for (int i = request_.observed - own_; i < request_.observed; ++i)
      add(work_.queries[at(layer)].data() + (i - first_kept_) * per_token, sequence_.length_ + i);
    attend_block block;
    block.count = queries() * group, block.key_dim = dim, block.value_dim = shape.value_dim;
    block.window = core_.plan.window(layer), block.sees_self = core_.plan.sees_self(layer);
    w.log_sum_exp.resize(at(block.count));
    block.queries = w.queries.data(), block.position = w.query_position.data();
    block.log_sum_exp = w.log_sum_exp.data();
    head_source<Core> source(core_, work_, std::as_const(sequence_).at(s, h), s, h, request_.tokens, sequence_.length_,
                             w);
    source.attend(block, request_.accepted, 0, false);
    Core::backend_type::column_mass(block, 0, block.count, weight(), mass);
    work_.blocks.give_back(std::move(scratch));
  }

  Core& core_;
  workspace& work_;
  Sequence& sequence_;
  const commit_request request_;
  int first_kept_ = 0;       // of this step's queries, the first that is kept
  int own_ = 0, older_ = 0;  // queries of this step, and of earlier ones
  int from_ = 0;             // of this step's queries, the first that leaves its attention behind
  int first_block_ = 0;      // the block that holds it
  buffer<half> ring_;        // the sequence's next one
  int ring_queries_ = 0, ring_position_ = 0;
};

}  // namespace tersekv::detail
