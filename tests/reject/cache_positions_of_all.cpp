// SPDX-License-Identifier: Apache-2.0
// expect: tersekv::cache_positions: where all rows are kept
#include <tersekv/adapt/cache_positions.hpp>
#include <tersekv/cache.hpp>
#include <tersekv/evict/streaming_llm.hpp>
#include <tersekv/rotary/rope.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::rope, kv::cache_positions<kv::keep_all>>;
#else
using recipe = kv::cache<kv::cpu, kv::rope, kv::cache_positions<kv::streaming_llm>>;
#endif
static_assert(sizeof(recipe) > 0);
