// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/dense.hpp>

#include "attend.cuh"

std::vector<bench::recipe> bench::recipes_of_numbers() {
  return {recipe_of<kv::dense<kv::half>>("dense f16", 0.90), recipe_of<kv::dense<kv::bfloat16>>("dense bf16", 0.90)};
}
