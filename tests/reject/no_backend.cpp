// SPDX-License-Identifier: Apache-2.0
// expect: no backend is named
#include <tersekv/cache.hpp>
#include <tersekv/evict/h2o.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::h2o>;
#else
using recipe = kv::cache<kv::cpu, kv::h2o>;
#endif
static_assert(sizeof(recipe) > 0);
