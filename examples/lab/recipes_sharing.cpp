// SPDX-License-Identifier: Apache-2.0
// Layers that share rows: for models that were trained this way.
#include "recipes.hpp"

namespace lab {

void add_sharing(kv::menu& menu) {
  menu.add<kv::cpu, kv::lckv<2>>();
  menu.add<kv::cpu, kv::lckv<2>, kv::dense<float>>();
  menu.add<kv::cpu, kv::lckv<2>, kv::h2o, kv::kivi<2, 32, 32>>();
  menu.add<kv::cpu, kv::cla<2>>();
  menu.add<kv::cpu, kv::yoco>();
}

}  // namespace lab
