// SPDX-License-Identifier: Apache-2.0
// Every engine has a flag: the program lists recipes at compile time, the user picks one by name at run time.
#include <iostream>

#include <tersekv/tersekv.hpp>
namespace kv = tersekv;

int main(int argc, char** argv) {
  kv::menu menu;
  menu.add<kv::cpu>();
  menu.add<kv::cpu, kv::int8<>>();
  menu.add<kv::cpu, kv::lckv<2>, kv::streaming_llm, kv::int4<>>();

  const char* recipe = argc > 1 ? argv[1] : "int4,lckv=2,streaming_llm=4+124";
  const kv::model_shape shape{.layers = 8, .query_heads = 4, .kv_heads = 2, .head_dim = 32};
  try {
    kv::any_cache cache = menu.make(shape, recipe, kv::cpu{});
    std::cout << recipe << ": layers read " << cache.plan().text() << '\n';
  } catch (const kv::error& e) {
    std::cout << e.what() << '\n';
  }
  try {
    menu.make(shape, "int5", kv::cpu{});
  } catch (const kv::recipe_error& e) {
    std::cout << e.what() << '\n';
  }
}
