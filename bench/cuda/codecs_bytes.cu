// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/keys_values.hpp>

#include "attend.cuh"

std::vector<bench::recipe> bench::recipes_of_bytes() {
  return {recipe_of<kv::int8<>>("int8<>", 0.85), recipe_of<kv::int4<>>("int4<>", 0.80),
          recipe_of<kv::int4<0>>("int4<0>", 0.80),
          recipe_of<kv::keys_values<kv::int8<>, kv::int4<>>>("keys<int8<>>, values<int4<>>", 0.80)};
}
