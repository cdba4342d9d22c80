// SPDX-License-Identifier: Apache-2.0
// expect: gives its role as a value, but a role is a type
#include <tersekv/cache.hpp>
namespace kv = tersekv;
struct mine {
#if defined(TERSEKV_REJECT)
  static constexpr kv::role::evict role{};
#else
  using role = tersekv::role::evict;
#endif
  static constexpr int columns = 0;
  kv::trigger when = kv::every_step;
  int budget() const { return 1; }
  kv::protection protects(kv::row) const { return kv::protection::none; }
  void score(const kv::scored_head&, std::span<float>) const {}
};
using recipe = kv::cache<kv::cpu, mine>;
static_assert(sizeof(recipe) > 0);
