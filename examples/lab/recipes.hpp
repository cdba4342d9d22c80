// SPDX-License-Identifier: Apache-2.0
//
// The recipes this program can be asked for by name. Each is compiled, so they are listed in several files, by family:
// add a line there for a recipe of your own.
#pragma once
#include <string>
#include <vector>

#include <tersekv/any_cache.hpp>
#include <tersekv/tersekv.hpp>

namespace lab {

namespace kv = tersekv;

void add_codecs(kv::menu& menu);
void add_evictors(kv::menu& menu);
void add_budgets(kv::menu& menu);
void add_mergers(kv::menu& menu);
void add_combined(kv::menu& menu);
void add_adapted(kv::menu& menu);
void add_readers(kv::menu& menu);
void add_sharing(kv::menu& menu);

kv::menu all_recipes();

/// Those that tell the story, for who asks for none.
std::vector<std::string> default_recipes();

}  // namespace lab
