// SPDX-License-Identifier: Apache-2.0
// expect: tersekv::layer_map: a map is layer numbers joined by '_', each with an optional 's'
#include <tersekv/cache.hpp>
#include <tersekv/share/layer_map.hpp>
#if defined(TERSEKV_REJECT)
using recipe = tersekv::cache<tersekv::cpu, tersekv::layer_map<"0_0_two">>;
#else
using recipe = tersekv::cache<tersekv::cpu, tersekv::layer_map<"0_0_2">>;
#endif
static_assert(sizeof(recipe) > 0);
