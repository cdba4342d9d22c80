// SPDX-License-Identifier: Apache-2.0
// expect: packs groups of rows that cannot be reopened
#include <tersekv/cache.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/streaming_llm.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::h2o, kv::kivi<2, 32, 128, kv::sealed>>;
#else
using recipe = kv::cache<kv::cpu, kv::streaming_llm, kv::kivi<2, 32, 128, kv::sealed>>;
#endif
static_assert(sizeof(recipe) > 0);
