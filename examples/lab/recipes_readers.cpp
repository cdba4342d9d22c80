// SPDX-License-Identifier: Apache-2.0
// All rows kept, some of them read.
#include "recipes.hpp"

namespace lab {

void add_readers(kv::menu& menu) {
  menu.add<kv::cpu, kv::quest>();
  menu.add<kv::cpu, kv::quest, kv::q8_0>();
  menu.add<kv::cpu, kv::quest, kv::kivi<2, 32, 32>>();
}

}  // namespace lab
