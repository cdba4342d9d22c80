// SPDX-License-Identifier: Apache-2.0
//
// What the model writes with a recipe, beside what it writes with the full cache; the first difference is marked.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

#include "workbench.hpp"

namespace lab {

/// Continues `prompt` greedily by `tokens` tokens.
struct continuation {
  std::vector<int> tokens;
  kv::report_data report;
};
continuation continue_text(const workbench& bench, const std::string& recipe, std::span<const int> prompt, int tokens);

/// Both texts in two columns, and where they part.
void print_beside(std::ostream& out, const workbench& bench, const std::string& left_name, const continuation& left,
                  const std::string& right_name, const continuation& right);

}  // namespace lab
