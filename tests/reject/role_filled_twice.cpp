// SPDX-License-Identifier: Apache-2.0
// expect: two policies fill the same role
#include <tersekv/cache.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/tova.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::h2o, kv::tova>;
#else
using recipe = kv::cache<kv::cpu, kv::h2o>;
#endif
static_assert(sizeof(recipe) > 0);
