// SPDX-License-Identifier: Apache-2.0
// Fewer rows, each in 16 bits.
#include "recipes.hpp"

namespace lab {

void add_evictors(kv::menu& menu) {
  menu.add<kv::cpu, kv::streaming_llm>();
  menu.add<kv::cpu, kv::h2o>();
  menu.add<kv::cpu, kv::snapkv>();
  menu.add<kv::cpu, kv::tova>();
  menu.add<kv::cpu, kv::knorm>();
  menu.add<kv::cpu, kv::keydiff>();
  menu.add<kv::cpu, kv::random_eviction>();
}

}  // namespace lab
