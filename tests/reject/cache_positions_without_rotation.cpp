// SPDX-License-Identifier: Apache-2.0
// expect: does not say how the model's keys are rotated
#include <tersekv/adapt/cache_positions.hpp>
#include <tersekv/cache.hpp>
#include <tersekv/evict/streaming_llm.hpp>
#include <tersekv/rotary/rope.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
using recipe = kv::cache<kv::cpu, kv::cache_positions<kv::streaming_llm>>;
#else
using recipe = kv::cache<kv::cpu, kv::cache_positions<kv::streaming_llm>, kv::rope>;
#endif
static_assert(sizeof(recipe) > 0);
