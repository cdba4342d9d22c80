// SPDX-License-Identifier: Apache-2.0
// expect: acts on rows that an eviction policy lets go
#include <tersekv/cache.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/merge/d2o.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::d2o>;
#else
using recipe = kv::cache<kv::cpu, kv::h2o, kv::d2o>;
#endif
static_assert(sizeof(recipe) > 0);
