// SPDX-License-Identifier: Apache-2.0
// What both units do, each compiled with flags of its own: attention over an int4 cache. Included once per unit.
#include <typeinfo>

#include <tersekv/cache.hpp>
#include <tersekv/codec/int4.hpp>

#include "units.hpp"

namespace {

unit_result attend_here() {
  constexpr int tokens = 200, heads = 2, dim = 64;
  auto cache = tersekv::make_cache({.layers = 1, .query_heads = 2 * heads, .kv_heads = heads, .head_dim = dim},
                                   tersekv::cpu{}, tersekv::int4<>{});
  auto chat = cache.open();
  unsigned state = 1;
  const auto numbers = [&](int n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    for (float& v : x) state = state * 1664525u + 1013904223u, v = static_cast<float>(state >> 8) / (1 << 23) - 1;
    return x;
  };
  std::vector<float> out(static_cast<std::size_t>(2 * heads * dim));
  for (const int n : {tokens, 1}) {
    auto k = numbers(n * heads * dim), v = numbers(n * heads * dim), q = numbers(n * 2 * heads * dim);
    auto step = chat.step(n);
    step.append(0, tersekv::view(k.data(), n, heads, dim), tersekv::view(v.data(), n, heads, dim));
    if (n == 1)
      step.attend(0, tersekv::view(q.data(), 1, 2 * heads, dim), tersekv::view(out.data(), 1, 2 * heads, dim));
    step.commit();
  }
  return {tersekv::detail::isa_name, typeid(cache).name(),
          typeid(tersekv::detail::key_kernel<tersekv::int4<>::key_format>).name(), out};
}

}  // namespace
