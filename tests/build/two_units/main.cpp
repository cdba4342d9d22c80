// SPDX-License-Identifier: Apache-2.0
// Everything included and used in two units of one program: what is defined twice does not link.
#include <tersekv/tersekv.hpp>

#include <cstddef>

std::size_t bytes_in_the_other_unit();

int main() {
  auto cache = tersekv::make_cache({.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 8}, tersekv::cpu{});
  return cache.page_bytes() == bytes_in_the_other_unit() ? 0 : 1;
}
