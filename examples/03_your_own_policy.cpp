// SPDX-License-Identifier: Apache-2.0
// A policy of your own: a struct that answers its role's questions. Nothing in the library changes.
// docs/adding_a_policy.md walks through this file.
#include <iostream>
#include <random>
#include <span>
#include <vector>

#include <tersekv/tersekv.hpp>
namespace kv = tersekv;

// [policy]
// Keep the rows whose attention, averaged over the queries that could see them, is largest - and the newest ones.
struct mean_attention {
  using role = tersekv::role::evict;
  using needs = tersekv::list<tersekv::fact::attention_mass>;        // a signal; nobody pays for those not named
  using provides = tersekv::list<tersekv::fact::comparable_scores>;  // so budgets such as ada may compare heads
  static constexpr std::string_view name = "mean_attention";         // for recipes as strings
  static constexpr int columns = 2;                                  // per row: attention received, queries seen

  int rows = 64;   // budget per head  [rows]
  int recent = 8;  // newest rows, always kept  [rows]
  kv::trigger when = kv::every_step;

  void observe(std::span<float> state, const kv::observation& o) const {
    state[0] += o.mass;
    state[1] += static_cast<float>(o.queries);
  }
  void score(const kv::scored_head& head, std::span<float> out) const {  // larger = keep
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = head.state[2 * i] / (head.state[2 * i + 1] + 1e-6f);
  }
  kv::protection protects(kv::row r) const { return r.age < recent ? kv::protection::recent : kv::protection::none; }
  int budget() const { return rows; }
};
// [policy]

int main() {
  auto cache = kv::make_cache({.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16}, kv::cpu{},
                              mean_attention{.rows = 12, .recent = 4}, kv::int8<>{});
  auto chat = cache.open();
  std::mt19937 engine(3);
  std::normal_distribution<float> normal;
  std::vector<float> k(16), v(16), q(32), out(32);
  for (int t = 0; t < 100; ++t) {
    for (auto* x : {&k, &v, &q})
      for (float& e : *x) e = normal(engine);
    if (t == 20)
      for (int c = 0; c < 16; ++c) k[static_cast<std::size_t>(c)] = 2 * q[static_cast<std::size_t>(c)];
    auto step = chat.step(1);
    step.append(0, kv::view(k.data(), 1, 1, 16), kv::view(v.data(), 1, 1, 16));
    step.attend(0, kv::view(q.data(), 1, 2, 16), kv::view(out.data(), 1, 2, 16));
    step.commit();
  }
  std::cout << "kept positions:";
  for (const int p : chat.positions(0, 0)) std::cout << ' ' << p;
  std::cout << '\n';
  return chat.rows(0, 0) == 12 ? 0 : 1;
}
