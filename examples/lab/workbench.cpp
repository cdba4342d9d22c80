// SPDX-License-Identifier: Apache-2.0
#include "workbench.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "recipes.hpp"

namespace lab {

workbench open_workbench(const std::filesystem::path& model_file, const std::filesystem::path& tokenizer_file) {
  constexpr int byte_vocabulary = 256;
  workbench bench{.model = load_model(model_file), .tokenizer = tokenizer::bytes(), .text = {}, .menu = all_recipes()};
  const int vocab = bench.model.dims.vocab;
  if (!tokenizer_file.empty())
    bench.tokenizer = tokenizer::load(tokenizer_file, vocab);
  else if (vocab != byte_vocabulary)
    throw tokenizer_error("The model '" + model_file.string() + "' has a vocabulary of " + std::to_string(vocab) +
                          " pieces, not bytes: give its llama2.c tokenizer file with --tokenizer.");
  return bench;
}

void read_text(workbench& bench, const std::filesystem::path& file) {
  std::error_code ignored;
  std::ifstream in(file, std::ios::binary);
  if (!in || !std::filesystem::is_regular_file(file, ignored))
    throw std::runtime_error("There is no text file '" + file.string() + "'.");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  bench.text = bench.tokenizer.encode(text);
}

int most_likely(std::span<const float> logits) {
  return static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace lab
