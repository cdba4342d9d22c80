// SPDX-License-Identifier: Apache-2.0
// Rows in fewer bits, all of them kept.
#include "recipes.hpp"

namespace lab {

void add_codecs(kv::menu& menu) {
  menu.add<kv::cpu, kv::dense<float>>();
  menu.add<kv::cpu, kv::dense<kv::half>>();
  menu.add<kv::cpu, kv::int8<>>();
  menu.add<kv::cpu, kv::int4<>>();
  menu.add<kv::cpu, kv::q8_0>();
  menu.add<kv::cpu, kv::q4_0>();
  menu.add<kv::cpu, kv::kivi<4, 32, 32>>();
  menu.add<kv::cpu, kv::kivi<2, 32, 32>>();
  menu.add<kv::cpu, kv::kivi<2>>();
}

}  // namespace lab
