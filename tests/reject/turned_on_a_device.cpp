// SPDX-License-Identifier: Apache-2.0
// expect: tersekv::cuda: kernels cannot call this policy
#include <tersekv/tersekv.hpp>
namespace kv = tersekv;
struct somewhere_else {
  using role = kv::role::backend;
  using provides = kv::list<kv::fact::attention_mass, kv::fact::last_attention, kv::fact::query_window>;
  static constexpr const char* name = "somewhere else";
  static constexpr bool on_device = true;
  std::pmr::memory_resource* memory = nullptr;
  std::size_t max_bytes = 0;
};
#if defined(TERSEKV_REJECT)
using asked = kv::cache<somewhere_else, kv::cache_positions<kv::streaming_llm>, kv::rope>;
static_assert(sizeof(asked) > 0);
#else
static_assert(kv::composes<somewhere_else, kv::streaming_llm, kv::int4<>>);
#endif
