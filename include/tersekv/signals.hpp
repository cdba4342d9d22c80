// SPDX-License-Identifier: Apache-2.0
// Where attention gets its rows from, and what it leaves for policies: the mass per row and the newest attention row;
// for the newest queries see newest_queries.hpp. Nothing here exists in recipes that need no signal. There is no
// attention matrix: logits live for one block of queries.
#pragma once
#include <algorithm>
#include <span>
#include <vector>

#include <tersekv/commit_request.hpp>
#include <tersekv/core.hpp>

namespace tersekv::detail {

/// Blocks of a longer step sum mass in so many lanes per head, which are added in order: the same bits for any number
/// of threads.
inline constexpr int mass_lanes = 16;

/// All rows that a head's queries meet: committed ones, then the step's own.
template <class Core>
class head_source {
 public:
  using scratch = block_scratch<typename Core::backend_type>;

  head_source(Core& core, typename Core::workspace& work, const typename Core::rows& head, int slot, int h, int n,
              int length, scratch& w)
      : core_(core), head_(head), n_(n), length_(length), w_(w) {
    w_.tile.prepare(core.shape.head_dim, core.shape.value_dim);
    const auto s = static_cast<std::size_t>(slot);
    keys_ = work.keys[s].data() + static_cast<std::ptrdiff_t>(h) * n * core.shape.head_dim;
    values_ = work.values[s].data() + static_cast<std::ptrdiff_t>(h) * n * core.shape.value_dim;
    if constexpr (Core::renumbers) {  // rank of every row among the live ones
      w_.rank.resize(static_cast<std::size_t>(head.slots()));
      int rank = 0;
      for (std::size_t i = 0; i < w_.rank.size(); ++i) w_.rank[i] = head.position()[i] >= 0 ? rank++ : -1;
      w_.turns.resize(static_cast<std::size_t>(core.shape.head_dim));
      w_.turned.resize(static_cast<std::size_t>(tile_rows * core.shape.head_dim));
    }
  }

  int rows() const { return head_.slots() + n_; }
  const float* staged_key(int j) const { return keys_ + static_cast<std::ptrdiff_t>(j) * core_.shape.head_dim; }
  const float* staged_value(int j) const { return values_ + static_cast<std::ptrdiff_t>(j) * core_.shape.value_dim; }

  /// visit(row_tile) for the committed rows (of `pages`, when not empty) and the first `staged` rows of the step.
  void for_each_tile(std::span<const int> pages, int staged, bool want_values, tile_visitor visit) {
    head_.for_each_tile(core_.format, w_.tile, pages, want_values, visit);
    for (int j = 0; j < staged; j += tile_rows) {
      row_tile tile;
      tile.rows = std::min(tile_rows, staged - j);
      for (int r = 0; r < tile.rows; ++r) {
        w_.tile.index[static_cast<std::size_t>(r)] = head_.slots() + j + r;
        w_.tile.position[static_cast<std::size_t>(r)] = length_ + j + r;
      }
      tile.keys = staged_key(j), tile.values = staged_value(j);
      tile.index = w_.tile.index.data(), tile.position = w_.tile.position.data();
      visit(tile);
    }
  }

  /// Attention of a block whose queries see at most the first `staged` rows of the step; fills block.logits of queries
  /// first_logits and on. `choose`: queries that decode read the pages that the read policy names; all others read all.
  void attend(attend_block& block, int staged, int first_logits, bool choose) {
    std::span<const int> pages;
    if constexpr (Core::read_type::selects)
      if (choose && n_ == 1 &&
          choose_pages(core_.read, core_.format, head_, {block.queries, block.count, block.key_dim, block.key_dim},
                       w_.choice))
        pages = w_.choice.pages;
    if (first_logits < block.count) {
      block.rows = rows(), block.first_logits = first_logits;
      w_.logits.assign(static_cast<std::size_t>(block.count - first_logits) * static_cast<std::size_t>(block.rows),
                       -std::numeric_limits<float>::infinity());
      block.logits = w_.logits.data();
    }
    if constexpr (Core::renumbers) turn_queries(block);
    Core::backend_type::attend(block, w_.attend, [&](tile_visitor visit) {
      for_each_tile(pages, staged, block.out != nullptr, [&](const row_tile& tile) {
        if constexpr (Core::renumbers)
          visit(turn_keys(tile));
        else
          visit(tile);
      });
    });
  }

 private:
  /// Rows are turned from their position to their index in the cache; so are the queries, which stand behind all rows.
  void turn_queries(attend_block& block) {
    for (int i = 0; i < block.count; ++i) {
      const int slot = head_.live() + block.position[i] - length_;
      core_.rotary.angles(slot - block.position[i], block.key_dim, w_.turns.data());
      core_.rotary.turn(const_cast<float*>(block.queries) + i * block.key_dim, block.key_dim, w_.turns.data());
    }
  }
  row_tile turn_keys(row_tile tile) {
    const int dim = core_.shape.head_dim;
    int known = 0;  // neighbours mostly turn by the same amount
    bool any = false;
    for (int r = 0; r < tile.rows; ++r) {
      float* row = w_.turned.data() + r * dim;
      std::copy_n(tile.keys + r * dim, dim, row);
      const int i = tile.index[r];
      if (tile.position[r] < 0) continue;
      const int slot = i < head_.slots() ? w_.rank[static_cast<std::size_t>(i)] : head_.live() + i - head_.slots();
      const int by = slot - tile.position[r];
      if (!any || by != known) core_.rotary.angles(by, dim, w_.turns.data());
      known = by, any = true;
      core_.rotary.turn(row, dim, w_.turns.data());
    }
    tile.keys = w_.turned.data();
    return tile;
  }
  Core& core_;
  const typename Core::rows& head_;
  int n_, length_;
  scratch& w_;
  const float* keys_;
  const float* values_;
};

/// Length of one signal row: the longest head's rows, and the step's.
template <class Core, class Sequence>
int signal_stride(const Core& core, const Sequence& sequence, int layer, int n) {
  int most = 0;
  for (int h = 0; h < core.shape.kv_heads; ++h) most = std::max(most, sequence.slots_of(core.plan.slot(layer), h));
  return most + n;
}

/// Room for what this pass of the layer leaves.
template <class Core, class Sequence>
void begin_signals(const Core& core, typename Core::workspace& work, const Sequence& sequence, int layer, int n) {
  if constexpr (Core::needs_logits)
    work.mass[static_cast<std::size_t>(layer)].begin(core.shape.kv_heads, signal_rows(n),
                                                     signal_stride(core, sequence, layer, n));
}

/// Where blocks of queries add to what others left.
template <class Core>
void clear_mass(const Core& core, typename Core::workspace& work, int layer, int n) {
  if constexpr (Core::needs_logits) {
    layer_mass& mass = work.mass[static_cast<std::size_t>(layer)];
    for (int h = 0; h < core.shape.kv_heads; ++h) mass.clear(h);
    if (n > separate_queries)
      work.lane_mass.assign(static_cast<std::size_t>(core.shape.kv_heads * mass_lanes) * mass.row(0, 0).size(), 0.0f);
  }
}
inline float* lane_mass(std::vector<float>& lanes, int h, int lane, std::size_t stride) {
  return lanes.data() + static_cast<std::size_t>(h * mass_lanes + lane) * stride;
}

/// Adds the mass of queries first .. last of the step, those that are observed.
template <class Core>
void record_mass(const Core& core, typename Core::workspace& work, const attend_block& block, int layer, int h,
                 int lane, int first, int last, int n, int observed) {
  layer_mass& mass = work.mass[static_cast<std::size_t>(layer)];
  const int group = core.shape.group();
  const bool separate = n <= separate_queries;
  const float weight = 1.0f / static_cast<float>(group);
  for (int i = first; i < std::min(last, observed); ++i) {
    const auto add = [&](float* to) {
      const int r = (i - first) * group;
      Core::backend_type::column_mass(block, r, r + group, weight, to);
    };
    add(separate ? mass.row(h, i).data() : lane_mass(work.lane_mass, h, lane, mass.row(h, 0).size()));
    if (!separate && i == observed - 1) add(mass.row(h, 1).data());
  }
}

/// Adds the lanes of a head up.
template <class Core>
void add_lanes(typename Core::workspace& work, int layer, int h) {
  const auto sum = work.mass[static_cast<std::size_t>(layer)].row(h, 0);
  for (int lane = 0; lane < mass_lanes; ++lane) {
    const float* from = lane_mass(work.lane_mass, h, lane, sum.size());
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += from[i];
  }
}

/// The same for a step that was attended straight from packed pages.
template <class Core>
void record_packed_mass(const Core& core, typename Core::workspace& work, const decode_attention<Core>& attention,
                        int layer, int h, int observed) {
  layer_mass& mass = work.mass[static_cast<std::size_t>(layer)];
  const int group = core.shape.group();
  for (int i = 0; i < observed; ++i) attention.store_mass(h, i * group, group, mass.row(h, i));
}

/// Whether a step of n tokens is attended straight from packed pages: a few queries of keys that stand as they are.
template <class Core>
bool attends_packed(const model_shape& shape, int n) {
  if constexpr (Core::renumbers) return false;
  return n == 1 || (n <= separate_queries && n * shape.group() <= decode_attention<Core>::most_rows_of_queries);
}

}  // namespace tersekv::detail
