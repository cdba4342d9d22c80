// SPDX-License-Identifier: Apache-2.0
// Fewer rows in fewer bits.
#include "recipes.hpp"

namespace lab {

void add_combined(kv::menu& menu) {
  menu.add<kv::cpu, kv::streaming_llm, kv::kivi<2, 32, 32>>();
  menu.add<kv::cpu, kv::h2o, kv::kivi<2, 32, 32>>();
  menu.add<kv::cpu, kv::h2o, kv::q4_0>();
  menu.add<kv::cpu, kv::snapkv, kv::kivi<2, 32, 32>>();
  menu.add<kv::cpu, kv::snapkv, kv::ada, kv::kivi<2, 32, 32>>();
  menu.add<kv::cpu, kv::h2o, kv::d2o, kv::kivi<2, 32, 32>>();
}

}  // namespace lab
