// SPDX-License-Identifier: Apache-2.0
// expect: compares stored keys, but the codec cannot read them back
#include <tersekv/cache.hpp>
#include <tersekv/evict/keydiff.hpp>
namespace kv = tersekv;
struct sketch : kv::dense<float> {
#if defined(TERSEKV_REJECT)
  using provides = kv::list<kv::fact::single_rows_may_leave>;
#endif
};
using recipe = kv::cache<kv::cpu, kv::keydiff, sketch>;
static_assert(sizeof(recipe) > 0);
