// SPDX-License-Identifier: Apache-2.0
//
// What every experiment stands on: a model, its tokenizer, a text in tokens, and the recipes of this program.
#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "runner.hpp"
#include "tokenizer.hpp"

namespace lab {

struct workbench {
  lab::model model;
  lab::tokenizer tokenizer;
  bool opening = true;    // every text starts with the tokenizer's opening token
  std::vector<int> text;  // tokens, without the opening token
  kv::menu menu;
  int threads = 1;

  /// A cache of this model; "full" means float32 rows, all kept.
  kv::any_cache make(const std::string& recipe) const {
    return menu.make(shape_of(model.dims), recipe == "full" ? "dense=f32" : recipe, kv::cpu{});
  }
};

/// Model and tokenizer, ready to run. A tokenizer file is needed unless the model speaks bytes (vocabulary 256).
/// Throws an error of one sentence when a file is absent or not what it should be.
workbench open_workbench(const std::filesystem::path& model_file, const std::filesystem::path& tokenizer_file);

/// Reads a text into bench.text.
void read_text(workbench& bench, const std::filesystem::path& file);

/// The token of the largest logit.
int most_likely(std::span<const float> logits);

}  // namespace lab
