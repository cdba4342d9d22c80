// SPDX-License-Identifier: Apache-2.0
// expect: two policies fill the same role
#include <tersekv/cache.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::dense<float>, kv::keys<kv::dense<kv::half>>>;
#else
using recipe = kv::cache<kv::cpu, kv::keys<kv::dense<kv::half>>>;
#endif
static_assert(sizeof(recipe) > 0);
