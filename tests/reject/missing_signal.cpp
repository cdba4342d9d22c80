// SPDX-License-Identifier: Apache-2.0
// expect: but the backend does not report it
#include <tersekv/cache.hpp>
#include <tersekv/evict/h2o.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
struct silent : kv::cpu {
  using provides = kv::list<>;
};
#else
using silent = kv::cpu;
#endif
using recipe = kv::cache<silent, kv::h2o>;
static_assert(sizeof(recipe) > 0);
