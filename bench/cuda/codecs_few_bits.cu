// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/kivi.hpp>

#include "attend.cuh"

std::vector<bench::recipe> bench::recipes_of_few_bits() {
  return {recipe_of<kv::affine<2, 0>>("affine<2, 0>", 0.60), recipe_of<kv::kivi<2>>("kivi<2>", 0.60)};
}
