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
  add_adapted(menu);
  add_readers(menu);
  add_sharing(menu);
  return menu;
}

std::vector<std::string> default_recipes() {
  return {"full",       // 32 bits, what the others are measured against
          "dense=f16",  // what engines hold
          "int8",       // per row, in groups
          "int4",
          "q8_0",  // the blocks of ggml
          "q4_0",
          "kivi=4+32+32",  // keys per channel
          "kivi=2+32+32",
          "streaming_llm=4+252",  // 256 rows per head from here on: by position,
          "h2o=128+128",          // by attention received,
          "tova=256",
          "knorm=256",
          "keydiff=256",
          "random=256",       // the floor
          "snapkv=64+32+31",  // 64 rows of the prompt, by what its end looks at; then it grows
          "h2o=128+128,d2o",  // what leaves is folded into what stays
          "h2o=128+128,kivi=2+32+32",
          "snapkv=64+32+31,ada,kivi=2+32+32",
          "quest=256"};  // all rows held, 256 read
}

}  // namespace lab
