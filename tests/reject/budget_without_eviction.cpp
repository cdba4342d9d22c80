// SPDX-License-Identifier: Apache-2.0
// expect: acts on rows that an eviction policy lets go
#include <tersekv/budget/pyramid.hpp>
#include <tersekv/cache.hpp>
#include <tersekv/evict/snapkv.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::pyramid>;
#else
using recipe = kv::cache<kv::cpu, kv::snapkv, kv::pyramid>;
#endif
static_assert(sizeof(recipe) > 0);
