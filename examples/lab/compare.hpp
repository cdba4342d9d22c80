// SPDX-License-Identifier: Apache-2.0
//
// Recipes side by side: perplexity, passkey and cost of each, and the ways of showing them (table, JSON lines; for
// drawings see plots.hpp).
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

#include "passkey.hpp"
#include "perplexity.hpp"

namespace lab {

struct comparison {
  struct row {
    std::string recipe;
    perplexity_result text;
    passkey_result passkey;
  };
  std::string model_name, text_name, reference;
  model_dims dims;
  perplexity_settings perplexity;
  passkey_settings passkey;
  int threads = 1;
  double seconds = 0;
  std::vector<row> rows;

  bool has_passkey(bool seen) const { return !rows.empty() && rows.front().passkey.exact(seen) >= 0; }
};

/// The reference is measured first, and is the first row when it is not among `recipes`.
comparison compare(const workbench& bench, std::vector<std::string> recipes, const std::string& reference,
                   const perplexity_settings& perplexity, const passkey_settings& passkey, progress& says);

void print_settings(std::ostream& out, const comparison& c);
void print_table(std::ostream& out, const comparison& c);
void print_passkey_grids(std::ostream& out, const comparison& c);  // accuracy by length and depth, per recipe

/// One JSON object per line: first the settings ("kind": "settings"), then one per recipe ("kind": "recipe").
void write_json(std::ostream& out, const comparison& c);

}  // namespace lab
