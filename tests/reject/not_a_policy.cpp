// SPDX-License-Identifier: Apache-2.0
// expect: this type is not a policy
#include <tersekv/cache.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, int>;
#else
using recipe = kv::cache<kv::cpu>;
#endif
static_assert(sizeof(recipe) > 0);
