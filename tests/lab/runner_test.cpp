// SPDX-License-Identifier: Apache-2.0
// The lab's runner against figures made elsewhere: the shipped model's golden numbers, and, where they are present,
// checkpoints beside the project with their published perplexities.
#include "runner.hpp"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "perplexity.hpp"
#include "recipes.hpp"
#include "workbench.hpp"

#include "catch.hpp"

namespace runner_test {

namespace kv = tersekv;
namespace fs = std::filesystem;

const fs::path examples = fs::path(TERSEKV_EXAMPLES_DIR);

std::vector<int> bytes_of(const fs::path& file, std::size_t first, std::size_t count) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream all;
  all << in.rdbuf();
  std::vector<int> out;
  for (const char c : all.str().substr(first, count)) out.push_back(static_cast<unsigned char>(c));
  return out;
}

fs::path shipped_model() {
  for (const auto& entry : fs::directory_iterator(examples / "models"))
    if (entry.path().extension() == ".bin") return entry.path();
  return {};
}

/// Mean of -log p(next), token by token.
double mean_loss(const lab::model& model, const std::vector<int>& tokens, const char* recipe) {
  kv::any_cache cache = lab::all_recipes().make(lab::shape_of(model.dims), recipe, kv::cpu{});
  auto chat = cache.open();
  lab::runner run(model);
  double sum = 0;
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    const auto logits = run.feed(cache, chat, std::span(tokens).subspan(i, 1));
    double top = -1e30, total = 0;
    for (const float x : logits) top = std::max(top, static_cast<double>(x));
    for (const float x : logits) total += std::exp(static_cast<double>(x) - top);
    sum += top + std::log(total) - static_cast<double>(logits[static_cast<std::size_t>(tokens[i + 1])]);
  }
  return sum / static_cast<double>(tokens.size() - 1);
}

TEST_CASE("the shipped model gives its golden logits, as one prompt and token by token", "[lab]") {
  std::ifstream in(examples / "models" / "golden.json");
  REQUIRE(in);
  const auto golden = nlohmann::json::parse(in);
  const lab::model model = lab::load_model(shipped_model());
  std::vector<int> prompt = bytes_of(examples / "texts" / "treasure_island.txt", 0, 40);
  prompt.insert(prompt.begin(), 0);
  kv::any_cache cache = lab::all_recipes().make(lab::shape_of(model.dims), "dense=f32", kv::cpu{});
  for (const bool whole : {true, false}) {
    auto chat = cache.open();
    lab::runner run(model);
    std::span<const float> logits;
    if (whole)
      logits = run.feed(cache, chat, prompt);
    else
      for (std::size_t i = 0; i < prompt.size(); ++i) logits = run.feed(cache, chat, std::span(prompt).subspan(i, 1));
    for (const auto& pair : golden.at("top_logits"))
      CHECK(logits[pair.at("id").get<std::size_t>()] == Approx(pair.at("value").get<double>()).margin(2e-3));
  }
  CHECK(mean_loss(model, prompt, "dense=f32") == Approx(golden.at("prompt_mean_nll").get<double>()).margin(1e-3));
}

TEST_CASE("checkpoints beside the project have their published perplexities", "[lab]") {
  const char* given = std::getenv("TERSEKV_MODELS");
  const fs::path models = given ? fs::path(given) : fs::path(TERSEKV_TESTS_DIR) / ".." / ".." / "shared" / "models";
  const fs::path texts = models / ".." / "texts" / "tinystories_lower_4mb.txt";
  if (!fs::exists(models / "byte_needle_d128_l4_gqa.bin") || !fs::exists(texts)) {
    std::cout << "skipped: no checkpoints in " << models << " (set TERSEKV_MODELS to a folder that has them)\n";
    return;
  }
  lab::workbench bench = lab::open_workbench(models / "byte_needle_d128_l4_gqa.bin", {});
  bench.menu = lab::all_recipes();
  bench.opening = false;
  lab::read_text(bench, texts);
  lab::perplexity_settings settings;
  settings.context = 1024, settings.chunks = 6, settings.first_token = 4080000;
  settings.feed = lab::protocol::every_token;
  lab::progress quiet(true);
  const auto r = lab::measure_perplexity(bench, {"dense=f32", "int8"}, "dense=f32", settings, quiet);
  CHECK(r[0].score.perplexity == Approx(2.737).epsilon(0.002));
  CHECK(r[0].score.perplexity_all == Approx(2.855).epsilon(0.002));
  CHECK(r[1].score.perplexity == Approx(r[0].score.perplexity).epsilon(0.005));
}

}  // namespace runner_test
