// SPDX-License-Identifier: Apache-2.0
#include "goals.hpp"

#include <algorithm>
#include <cstdio>

namespace bench {
namespace {

struct goal {
  std::string what;
  const char* format;
  double times;  // of what is printed
  bool at_most;
  double wanted;
  std::function<std::optional<double>(const record&)> value;  // none: not about this record
};

using names = std::vector<std::string>;
const names eight_bits = {"int8<>", "q8_0"}, two_bits = {"affine<2, 0>", "kivi<2>"},
            four_bits = {"int4<>", "int4<0>", "symmetric<4, 0>", "through<hadamard, int4<0>>",
                         "q4_0",   "iq4_nl",  "kivi<4>"};

bool packed(const record& r) { return !r.recipe.starts_with("dense"); }
std::function<std::optional<double>(const record&)> also(const char* question, const char* name) {
  return [=](const record& r) {
    const auto found = r.also.find(name);
    return r.question == question && found != r.also.end() ? std::optional(found->second) : std::nullopt;
  };
}

std::vector<goal> goals_of_attention(int kv_heads, bool vnni) {
  const auto ratio = [=](std::optional<double> record::*which, const names& recipes) {
    return [=](const record& r) {
      const bool named = std::find(recipes.begin(), recipes.end(), r.recipe) != recipes.end();
      return r.question == "attend" && r.shape.kv_heads == kv_heads && named ? r.*which : std::nullopt;
    };
  };
  const auto reference = [=](bool of_packed) {
    return [=](const record& r) {
      const bool ours = r.question == "attend" && r.shape.kv_heads == kv_heads && packed(r) == of_packed;
      return ours ? r.vs_reference : std::nullopt;
    };
  };
  const auto bandwidth = [=](const record& r) {
    const bool large = r.question == "attend" && r.shape.kv_heads == kv_heads && r.rows >= 65536 && r.threads == 2;
    return large && r.recipe == "dense f16" ? r.of_bandwidth : std::nullopt;
  };
  const std::string heads = ", " + std::to_string(kv_heads) + " KV heads";
  return {
      {"16 bits: share of bandwidth, 65536 rows, 2 threads" + heads, "%.0f %%", 100, false, 0.8, bandwidth},
      {"8 bits against dense f16" + heads, "%.2fx", 1, false, vnni ? 1.8 : 1.3,
       ratio(&record::vs_dense_f16, eight_bits)},
      {"4 bits against dense f16" + heads, "%.2fx", 1, false, 2.5, ratio(&record::vs_dense_f16, four_bits)},
      {"2 bits against dense f16" + heads, "%.2fx", 1, false, 3, ratio(&record::vs_dense_f16, two_bits)},
      {"16 bits against ggml's F16" + heads, "%.1fx", 1, false, 5, ratio(&record::vs_ggml, {"dense f16"})},
      {"8 bits against ggml's Q8_0" + heads, "%.1fx", 1, false, 10, ratio(&record::vs_ggml, eight_bits)},
      {"4 bits against ggml's Q4_0" + heads, "%.1fx", 1, false, 30, ratio(&record::vs_ggml, four_bits)},
      {"packed codecs against the plain reference" + heads, "%.1fx", 1, false, 5, reference(true)},
      {"numbers against the plain reference" + heads, "%.1fx", 1, false, 5, reference(false)},
  };
}

std::vector<goal> other_goals() {
  const auto ragged = also("recipes", "vs_plain"), written = also("append", "ns_per_value");
  return {
      {"attention mass (h2o), of attention", "%.1f %%", 100, true, 0.1, also("recipes", "signal_share")},
      {"ragged heads against rectangular", "%.2fx", 1, false, 1 / 1.1,
       [=](const record& r) { return r.recipe.starts_with("quest") ? std::nullopt : ragged(r); }},
      {"a sixteenth of the rows read (quest)", "%.2fx", 1, false, 5,
       [=](const record& r) { return r.recipe.starts_with("quest") ? ragged(r) : std::nullopt; }},
      {"encoding of int8, int4 and kivi, ns per value", "%.2f", 1, true, 2,
       [=](const record& r) {
         const bool meant = r.recipe.starts_with("int") || r.recipe.starts_with("kivi");
         return meant && r.part.starts_with("encoding") ? written(r) : std::nullopt;
       }},
      {"prompts against products of Eigen", "%.2fx", 1, false, 1,
       [](const record& r) { return r.question == "prompt" ? r.vs_reference : std::nullopt; }},
      {"scores of snapkv, of the prompt's attention", "%.1f %%", 100, true, 0.05, also("prompt", "of_prompt")},
      {"trim and pack, of the prompt's attention", "%.1f %%", 100, true, 1, also("trim", "of_prompt")},
  };
}

std::string printed(const goal& g, double x) {
  char text[64];
  std::snprintf(text, sizeof text, g.format, x * g.times);
  return text;
}

}  // namespace

std::string goals(const std::vector<run_of_question>& runs) {
  std::vector<goal> all;
  for (const int kv_heads : {8, 32})
    for (goal& g : goals_of_attention(kv_heads, runs.front().on.isa == "avx512")) all.push_back(std::move(g));
  for (goal& g : other_goals()) all.push_back(std::move(g));
  std::string out = "| goal | wanted | lines | reached in | worst | best |\n|---|---:|---:|---:|---:|---:|\n";
  for (const goal& g : all) {
    std::vector<double> values;
    for (const run_of_question& run : runs)
      for (const record& r : run.records)
        if (const auto x = g.value(r)) values.push_back(*x);
    if (values.empty()) continue;
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    const auto met = std::count_if(values.begin(), values.end(),
                                   [&](double x) { return g.at_most ? x <= g.wanted : x >= g.wanted; });
    out += "| " + g.what + " | " + (g.at_most ? "at most " : "") + printed(g, g.wanted) + " | " +
           std::to_string(values.size()) + " | " + std::to_string(met) + " | " +
           printed(g, g.at_most ? *most : *least) + " | " + printed(g, g.at_most ? *least : *most) + " |\n";
  }
  return out + "\n";
}

}  // namespace bench
