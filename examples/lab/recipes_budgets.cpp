// SPDX-License-Identifier: Apache-2.0
// Fewer rows, spread unevenly over heads or layers.
#include "recipes.hpp"

namespace lab {

void add_budgets(kv::menu& menu) {
  menu.add<kv::cpu, kv::snapkv, kv::ada>();
  menu.add<kv::cpu, kv::snapkv, kv::pyramid>();
  menu.add<kv::cpu, kv::h2o, kv::ada>();
}

}  // namespace lab
