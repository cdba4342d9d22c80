// SPDX-License-Identifier: Apache-2.0
// Policies around policies, and keys and values written apart.
#include "recipes.hpp"

namespace lab {

void add_adapted(kv::menu& menu) {
  menu.add<kv::cpu, kv::cache_positions<kv::streaming_llm>, kv::rope>();
  menu.add<kv::cpu, kv::sinks<4, kv::int4<>>>();
  menu.add<kv::cpu, kv::through<kv::hadamard, kv::int4<>>>();
  menu.add<kv::cpu, kv::keys<kv::int8<>>, kv::values<kv::int4<>>>();
  menu.add<kv::cpu, kv::h2o, kv::log_mass<kv::d2o>>();
}

}  // namespace lab
