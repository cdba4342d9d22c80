// SPDX-License-Identifier: Apache-2.0
// tersekv::cpu: attention on the host. No hidden threads: work is spread by the caller's for-each.
//
// Steps of few tokens are attended by cpu/decode.hpp, on packed rows. Here are prompts: tile by tile of decoded rows
// with a running maximum and sum, products by Eigen, so that no decoded cache and no attention matrix exists; every
// block of queries is worked on by one call in a fixed order, so results do not depend on the number of threads.
#pragma once
#include <cmath>
#include <functional>
#include <memory_resource>
#include <string_view>
#include <vector>

#include <tersekv/backend/backend.hpp>
#include <tersekv/backend/cpu/decode.hpp>
#include <tersekv/backend/cpu/logits.hpp>
#include <tersekv/detail/eigen.hpp>
#include <tersekv/detail/exp.hpp>
#include <tersekv/head_rows.hpp>

namespace tersekv {

/// In the namespace of its instruction set, and with it every cache on it: units of one program that were compiled with
/// different flags do not share such code.
inline namespace TERSEKV_ISA {

struct cpu {
  using decode_scratch = detail::decode_scratch;
  using page_choice = detail::page_choice;
  using role = tersekv::role::backend;
  using provides = tersekv::list<fact::attention_mass, fact::last_attention, fact::query_window>;
  static constexpr std::string_view name = "cpu";

  // Must be safe to use from several threads where sequences of one cache are.
  std::pmr::memory_resource* memory = std::pmr::new_delete_resource();
  std::size_t max_bytes = 0;  // pages, windows, columns; 0 = no limit
  // (n, work): runs work(0) .. work(n - 1), each once, on threads that live on.
  std::function<void(int, const std::function<void(int)>&)> parallel = {};

  template <class Work>
  void for_each(int n, Work&& work) const {
    if (parallel && n > 1) return parallel(n, std::function<void(int)>(std::ref(work)));
    for (int i = 0; i < n; ++i) work(i);
  }

  struct scratch {
    std::vector<float> logits;        // [count, tile_rows]
    std::vector<float> maximum, sum;  // [count]
  };

  /// Online softmax over tiles. `tiles(visit)` calls visit(row_tile) for every tile that the block may see.
  static void attend(const attend_block& block, scratch& s, tile_source tiles) {
    using detail::const_matrix_map;
    using detail::matrix_map;
    constexpr float hidden = detail::minus_infinity;
    const auto count = static_cast<std::size_t>(block.count);
    s.logits.resize(count * tile_rows);
    s.maximum.assign(count, hidden);
    s.sum.assign(count, 0.0f);
    matrix_map out(block.out, block.out ? block.count : 0, block.value_dim);
    out.setZero();
    const const_matrix_map q(block.queries, block.count, block.key_dim);
    tiles([&](const row_tile& tile) {
      const const_matrix_map k(tile.keys, tile.rows, block.key_dim);
      matrix_map p(s.logits.data(), block.count, tile.rows);
      p.noalias() = q * k.transpose();
      for (int i = 0; i < block.count; ++i) {
        float* row = p.data() + static_cast<std::ptrdiff_t>(i) * tile.rows;
        const auto [oldest, newest] = detail::sight_from(block.position[i], block.window, block.sees_self);
        for (int r = 0; r < tile.rows; ++r) {
          const float x = tile.bias ? row[r] + tile.bias[r] : row[r];
          const bool visible = tile.position[r] >= oldest && tile.position[r] <= newest;
          row[r] = visible ? x : hidden;
        }
        const float top = detail::largest_of(row, tile.rows);
        if (block.logits && i >= block.first_logits) {
          float* to = block.logits + static_cast<std::ptrdiff_t>(i - block.first_logits) * block.rows;
          if (tile.index[tile.rows - 1] - tile.index[0] == tile.rows - 1)
            std::copy_n(row, tile.rows, to + tile.index[0]);
          else
            for (int r = 0; r < tile.rows; ++r) to[tile.index[r]] = row[r];
        }
        const auto u = static_cast<std::size_t>(i);
        if (top > s.maximum[u]) {
          const float shrink = s.maximum[u] == hidden ? 0.0f : detail::fast_exp(s.maximum[u] - top);
          s.sum[u] *= shrink;
          if (block.out) out.row(i) *= shrink;
          s.maximum[u] = top;
        }
        if (s.maximum[u] == hidden) {
          for (int r = 0; r < tile.rows; ++r) row[r] = 0;
          continue;
        }
        s.sum[u] += detail::exp_and_sum(row, tile.rows, s.maximum[u]);
      }
      if (block.out) out.noalias() += p * const_matrix_map(tile.values, tile.rows, block.value_dim);
    });
    for (int i = 0; i < block.count; ++i) {
      const auto u = static_cast<std::size_t>(i);
      const bool empty = s.sum[u] == 0;
      if (block.out && !empty) out.row(i) /= s.sum[u];
      block.log_sum_exp[i] = empty ? hidden : s.maximum[u] + std::log(s.sum[u]);
    }
  }

  /// mass[rows] += sum over the block's queries first .. last, with logits, of weight * exp(logit - log_sum_exp).
  static void column_mass(const attend_block& block, int first, int last, float weight, float* mass) {
    for (int i = first; i < last; ++i) {
      const float shift = block.log_sum_exp[i];
      if (shift == detail::minus_infinity) continue;
      const float* logits = block.logits + static_cast<std::ptrdiff_t>(i - block.first_logits) * block.rows;
      detail::add_exp(logits, block.rows, shift, weight, mass);
    }
  }
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv
