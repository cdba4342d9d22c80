// SPDX-License-Identifier: Apache-2.0
#include "recipes.hpp"

namespace lab {

kv::menu all_recipes() {
  kv::menu menu;
  add_codecs(menu);
  add_evictors(menu);
  add_budgets(menu);
  add_mergers(menu);
  add_combined(menu);
  add_readers(menu);
  add_sharing(menu);
  return menu;
}

std::vector<std::string> default_recipes() {
  return {"full",                   // 32 bits, what the others are measured against
          "dense=f16",              // what engines hold
          "int8", "int4",           // every number on its own grid point
          "q8_0", "q4_0",           // the blocks of ggml
          "kivi=4+32+32", "kivi=2+32+32",
          "streaming_llm=4+252",    // 256 rows per head from here on: by position,
          "h2o=128+128",            // by attention received,
          "snapkv=256+32+31",       // by what the end of the prompt looks at,
          "tova=256", "knorm=256", "keydiff=256",
          "random=256",
          "h2o=128+128,d2o",        // what leaves is folded into what stays
          "snapkv=256+32+31,ada,kivi=2+32+32",
          "h2o=128+128,kivi=2+32+32",
          "quest=256"};             // all rows held, 256 read
}

}  // namespace lab
