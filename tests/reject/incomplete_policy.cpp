// SPDX-License-Identifier: Apache-2.0
// expect: this eviction policy is incomplete
// expect: void score(const tersekv::scored_head&, std::span<float>) const
#include <tersekv/cache.hpp>
namespace kv = tersekv;
struct mine {
  using role = tersekv::role::evict;
  static constexpr int columns = 0;
  kv::trigger when = kv::every_step;
  int budget() const { return 1; }
  kv::protection protects(kv::row) const { return kv::protection::none; }
#if !defined(TERSEKV_REJECT)
  void score(const kv::scored_head&, std::span<float>) const {}
#endif
};
using recipe = kv::cache<kv::cpu, mine>;
static_assert(sizeof(recipe) > 0);
