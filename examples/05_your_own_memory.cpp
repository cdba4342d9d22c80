// SPDX-License-Identifier: Apache-2.0
// An engine that keeps its own pages asks the same policies what to keep, and moves its rows itself.
#include <iostream>
#include <vector>

#include <tersekv/tersekv.hpp>
namespace kv = tersekv;

int main() {
  const int heads = 2, page_rows = 16;
  kv::row_plan plan(heads, kv::h2o{.heavy = 24, .recent = 24}, kv::uniform{}, page_rows);  // one per layer
  std::vector<std::vector<int>> rows(heads);  // the engine's memory; here a row is its position

  for (int n = 100; plan.seen() < 130; n = 1) {
    plan.append(n);
    for (int h = 0; h < heads; ++h) {
      auto& mine = rows[static_cast<std::size_t>(h)];
      for (int i = plan.seen() - n; i < plan.seen(); ++i) mine.push_back(i);
      std::vector<float> mass(mine.size());  // what the engine's attention put on each row; here multiples of 7 and 11
      for (std::size_t i = 0; i < mass.size(); ++i) mass[i] = mine[i] % (h == 0 ? 7 : 11) == 0 ? 1.0f : 0.1f;
      plan.observe(h, mass, n);
    }
    const auto trims = plan.trim(n > 1 ? kv::row_plan_step::prompt_end : kv::row_plan_step::decode);
    for (int h = 0; h < heads; ++h) {
      auto& mine = rows[static_cast<std::size_t>(h)];
      const kv::head_trim& trim = trims[static_cast<std::size_t>(h)];
      for (const kv::row_move& move : trim.moves)
        mine[static_cast<std::size_t>(move.to)] = mine[static_cast<std::size_t>(move.from)];
      mine.resize(static_cast<std::size_t>(trim.rows));
      if (n > 1)
        std::cout << "head " << h << ": " << trim.kept.size() << " rows stay, " << trim.moves.size() << " move, "
                  << trim.freed_pages << " pages free\n";
    }
  }
  for (const auto& head : rows) {
    for (const int p : head) std::cout << p << ' ';
    std::cout << '\n';
  }
  return rows[0].size() == 48 ? 0 : 1;
}
