// SPDX-License-Identifier: Apache-2.0
// expect: rewrites stored rows, but the codec packs every row at once
#include <tersekv/cache.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/merge/d2o.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::h2o, kv::d2o, kv::kivi<2, 32, 0>>;
#else
using recipe = kv::cache<kv::cpu, kv::h2o, kv::d2o, kv::kivi<2, 32, 128>>;
#endif
static_assert(sizeof(recipe) > 0);
