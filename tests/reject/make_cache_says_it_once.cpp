// SPDX-License-Identifier: Apache-2.0
// expect: no backend is named
#include <tersekv/cache.hpp>
#include <tersekv/evict/h2o.hpp>
namespace kv = tersekv;
#if defined(TERSEKV_REJECT)
auto cache = kv::make_cache(kv::model_shape{}, kv::h2o{});
#else
auto cache = kv::make_cache(kv::model_shape{}, kv::h2o{}, kv::cpu{});
#endif
