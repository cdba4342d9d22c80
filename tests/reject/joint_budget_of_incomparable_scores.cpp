// SPDX-License-Identifier: Apache-2.0
// expect: scores are not comparable between heads
#include <tersekv/budget/ada.hpp>
#include <tersekv/cache.hpp>
#include <tersekv/evict/snapkv.hpp>
#include <tersekv/evict/streaming_llm.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::streaming_llm, kv::ada>;
#else
using recipe = kv::cache<kv::cpu, kv::snapkv, kv::ada>;
#endif
static_assert(sizeof(recipe) > 0);
