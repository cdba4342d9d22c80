// SPDX-License-Identifier: Apache-2.0
// expect: names a role that the cache does not know
#include <tersekv/cache.hpp>
namespace kv = tersekv;
struct mine : kv::keep_all {
#if defined(TERSEKV_REJECT)
  using role = int;
#else
  using role = tersekv::role::evict;
#endif
};
using recipe = kv::cache<kv::cpu, mine>;
static_assert(sizeof(recipe) > 0);
