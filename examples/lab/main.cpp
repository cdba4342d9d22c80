// SPDX-License-Identifier: Apache-2.0
//
// tersekv_lab: what does a cache recipe cost in quality, and what does it save? This file reads the command line;
// start reading at compare.hpp.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <thread>

#include "compare.hpp"
#include "generate.hpp"
#include "plots.hpp"
#include "recipes.hpp"

namespace {

namespace fs = std::filesystem;

constexpr const char* description =
    R"(tersekv_lab runs a small trained language model with its KV cache compressed in different ways and reports,
for every way, what the model still predicts and what the cache holds.

A way of compressing is a recipe: policies joined by commas, each with its tuning after '='. 'full' keeps everything
in 32 bits; 'h2o=128+128,q4_0' keeps 256 rows per head, of which 128 are the newest, in 4-bit blocks.
'tersekv_lab list' shows what this program knows.

Examples
  tersekv_lab                                        compare a dozen recipes, in under a minute
  tersekv_lab compare q4_0 h2o=128+128,q4_0          compare these with the full cache
  tersekv_lab compare --chunks 16 --trials 8 --json results.jsonl --plots drawings
  tersekv_lab generate h2o=128+128 --tokens 300      let the model write with that recipe)";

struct options {
  std::string model, tokenizer, text = TERSEKV_EXAMPLES_DIR "/texts/treasure_island.txt";
  bool no_opening = false, quiet = false;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));

  std::vector<std::string> recipes;
  std::string reference = "full", feed = "half";
  lab::perplexity_settings perplexity;
  lab::passkey_settings passkey;
  std::string json, plots;
  bool no_passkey = false, grid = false;

  std::string prompt;
  int prompt_tokens = 512, new_tokens = 200;
};

std::string shipped_model() {
  const fs::path folder = TERSEKV_EXAMPLES_DIR "/models";
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".bin") found.push_back(entry.path());
  if (found.empty())
    throw std::runtime_error("There is no model (*.bin) in '" + folder.lexically_normal().string() +
                             "'; give one with --model.");
  return std::min_element(found.begin(), found.end())->lexically_normal().string();
}

lab::workbench open_bench(const options& o) {
  lab::workbench bench = lab::open_workbench(o.model.empty() ? shipped_model() : o.model, o.tokenizer);
  bench.opening = !o.no_opening;
  bench.threads = o.threads;
  return bench;
}

int run_compare(const options& o) {
  lab::workbench bench = open_bench(o);
  lab::read_text(bench, o.text);
  lab::perplexity_settings perplexity = o.perplexity;
  perplexity.feed = o.feed == "P1" ? lab::protocol::every_token : lab::protocol::half_prompt;
  lab::passkey_settings passkey = o.passkey;
  passkey.prompt_piece = perplexity.prompt_piece;
  if (o.no_passkey) passkey.lengths.clear();

  std::ofstream json;
  if (!o.json.empty()) {  // before the work, so that a wrong path costs no time
    json.open(o.json);
    if (!json) throw std::runtime_error("Cannot write '" + o.json + "'.");
  }
  if (std::error_code failed; !o.plots.empty() && (fs::create_directories(o.plots, failed), failed))
    throw std::runtime_error("Cannot make the folder '" + o.plots + "'.");

  lab::progress says(o.quiet);
  lab::comparison c = lab::compare(bench, o.recipes.empty() ? lab::default_recipes() : o.recipes, o.reference,
                                   perplexity, passkey, says);
  c.model_name = fs::path(o.model.empty() ? shipped_model() : o.model).filename().string();
  c.text_name = fs::path(o.text).filename().string();
  lab::print_settings(std::cout, c);
  std::cout << "\n";
  lab::print_table(std::cout, c);
  if (o.grid) lab::print_passkey_grids(std::cout, c);
  if (json.is_open()) lab::write_json(json, c);
  if (!o.plots.empty())
    for (const fs::path& file : lab::write_plots(o.plots, c)) std::cout << "wrote " << file.string() << "\n";
  return 0;
}

int run_generate(const options& o) {
  lab::workbench bench = open_bench(o);
  std::vector<int> prompt;
  if (bench.opening) prompt.push_back(bench.tokenizer.opening_token());
  if (o.prompt.empty()) {
    lab::read_text(bench, o.text);
    const auto n = std::min(static_cast<std::size_t>(o.prompt_tokens), bench.text.size());
    prompt.insert(prompt.end(), bench.text.begin(), bench.text.begin() + static_cast<std::ptrdiff_t>(n));
  } else {
    const auto tokens = bench.tokenizer.encode(o.prompt);
    prompt.insert(prompt.end(), tokens.begin(), tokens.end());
  }
  if (prompt.empty()) throw std::runtime_error("The prompt is empty.");
  const auto recipes = o.recipes.empty() ? std::vector<std::string>{"h2o=128+128,kivi=2+32+32"} : o.recipes;
  for (const std::string& recipe : recipes) bench.make(recipe);
  const auto full = lab::continue_text(bench, o.reference, prompt, o.new_tokens);
  std::cout << "a prompt of " << prompt.size() << " tokens, then " << o.new_tokens << " tokens, most likely first\n";
  for (const std::string& recipe : recipes) {
    std::cout << "\n";
    lab::print_beside(std::cout, bench, o.reference, full, recipe,
                      lab::continue_text(bench, recipe, prompt, o.new_tokens));
  }
  return 0;
}

int run_list() {
  std::cout << "Recipes of this program. Numbers are fixed; write a number in the place of a word, or leave the last "
               "ones out for\n"
               "the defaults, as in snapkv=256+32. 'full' is dense=f32.\n\n";
  for (const std::string& name : lab::all_recipes().names()) std::cout << "  " << name << "\n";
  return 0;
}

void add_compare_options(CLI::App& compare, options& o) {
  compare.add_option("recipes", o.recipes, "Recipes to compare, separated by spaces; a dozen by default");
  compare.add_option("--reference", o.reference, "Recipe that the others are measured against")->capture_default_str();
  compare.add_option("--context", o.perplexity.context, "Tokens in a chunk of text")
      ->check(CLI::Range(8, 1 << 20))
      ->capture_default_str();
  compare.add_option("--chunks", o.perplexity.chunks, "Chunks of text")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  compare.add_option("--skip", o.perplexity.first_token, "Tokens of the text before the first chunk")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  compare
      .add_option("--protocol", o.feed, "half: the first half of a chunk is a prompt; P1: token by token throughout")
      ->check(CLI::IsMember({"half", "P1"}))
      ->capture_default_str();
  compare.add_option("--prompt-piece", o.perplexity.prompt_piece, "Feed prompts in pieces of so many tokens; 0: whole")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  compare.add_option("--lengths", o.passkey.lengths, "Tokens in a passkey prompt, one or more, as in 512,1024")
      ->delimiter(',')
      ->check(CLI::Range(128, 1 << 20))
      ->capture_default_str();
  compare.add_option("--depths", o.passkey.depths, "Depths of the passkey line")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  compare.add_option("--trials", o.passkey.trials, "Passkey prompts per length and depth")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  compare.add_flag("--no-passkey", o.no_passkey, "Leave the passkey test out");
  compare.add_flag("--grid", o.grid, "Print passkey accuracy by length and depth");
  compare.add_option("--json", o.json, "Write the results as JSON lines to this file");
  compare.add_option("--plots", o.plots, "Write drawings (SVG) into this folder");
}

}  // namespace

int main(int count, char** arguments) {
  CLI::App app(description, "tersekv_lab");
  app.require_subcommand(0, 1);
  options o;
  app.add_option("--model", o.model, "Model file of the llama2.c family; by default the one in examples/models");
  app.add_option("--tokenizer", o.tokenizer, "llama2.c tokenizer file, for models that do not speak bytes");
  app.add_option("--text", o.text, "Text to evaluate on")->default_str("examples/texts/treasure_island.txt");
  app.add_flag("--no-opening", o.no_opening,
               "Do not begin texts with an opening token, for models trained without one");
  app.add_option("--threads", o.threads, "Pieces of work done at a time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--quiet", o.quiet, "No progress on stderr");

  CLI::App* compare = app.add_subcommand("compare", "Compare recipes; what happens when no subcommand is given");
  CLI::App* generate = app.add_subcommand("generate", "Write with a recipe, beside the full cache");
  CLI::App* list = app.add_subcommand("list", "List the recipes of this program");
  for (CLI::App* sub : {compare, generate, list})
    sub->fallthrough()->footer("Options for model, text and threads: tersekv_lab --help");
  add_compare_options(*compare, o);
  generate->add_option("recipes", o.recipes, "Recipes to write with; h2o=128+128,kivi=2+32+32 by default");
  generate->add_option("--reference", o.reference, "Recipe to write beside")->capture_default_str();
  generate->add_option("--prompt", o.prompt, "Text to continue; by default the beginning of --text");
  generate->add_option("--prompt-tokens", o.prompt_tokens, "How much of --text is the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  generate->add_option("--tokens", o.new_tokens, "Tokens to write")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();

  std::vector<std::string> words(arguments + 1, arguments + count);
  const auto is_any_of = [](const std::string& word, std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), word) != names.end();
  };
  if (std::none_of(words.begin(), words.end(), [&](const std::string& word) {
        return is_any_of(word, {"compare", "generate", "list", "-h", "--help"});
      }))
    words.insert(words.begin(), "compare");
  std::reverse(words.begin(), words.end());  // as CLI11 wants them

  try {
    app.parse(words);
    return list->parsed() ? run_list() : generate->parsed() ? run_generate(o) : run_compare(o);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  } catch (const std::exception& e) {
    std::cerr << "tersekv_lab: " << e.what() << "\n";
    return 1;
  }
}
