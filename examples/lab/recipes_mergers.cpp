// SPDX-License-Identifier: Apache-2.0
// Rows that leave are folded into rows that stay.
#include "recipes.hpp"

namespace lab {

void add_mergers(kv::menu& menu) {
  menu.add<kv::cpu, kv::h2o, kv::d2o>();
  menu.add<kv::cpu, kv::snapkv, kv::d2o>();
  menu.add<kv::cpu, kv::h2o, kv::weighted_kv>();
}

}  // namespace lab
