// SPDX-License-Identifier: Apache-2.0
#include "cache.hpp"

#include <tersekv/backend/cpu.hpp>
#include <tersekv/backend/cuda/reference.cuh>
#include <tersekv/codec/int4.hpp>

namespace kv = tersekv;

template void kv::detail::reference_attention(const kv::page_format<kv::int4<>, kv::read_all>&,
                                              const kv::detail::attend_shape&, const kv::detail::device_query*, int,
                                              int, const kv::detail::device_window*, const kv::detail::page_lists&,
                                              kv::cuda_stream);

kv::any_cache engine_cache(const kv::model_shape& shape) {
  kv::menu menu;
  menu.add<kv::cpu, kv::int4<>>();
  return menu.make(shape, "int4", kv::cpu{});
}
