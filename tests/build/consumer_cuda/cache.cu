// SPDX-License-Identifier: Apache-2.0
#include "cache.hpp"

#include <tersekv/backend/cuda.cuh>

namespace kv = tersekv;

kv::any_cache engine_cache(const kv::model_shape& shape) {
  kv::menu menu;
  menu.add<kv::cuda, kv::int4<>>();
  return menu.make(shape, "int4", kv::cuda{});
}
