// SPDX-License-Identifier: Apache-2.0
//
// How much a recipe changes what the model predicts, on a text, and what the cache holds and costs meanwhile.
//
// The text is cut into chunks of `context` tokens, each with an empty cache. Two ways of feeding a chunk:
//   half_prompt  the first half is one prompt, after which a recipe compresses; then token by token, so that the recipe
//                acts after each. As an engine would.
//   every_token  token by token from the start (P1).
// Scores are of the predictions made in the second half of a chunk; all of them are made from a compressed cache.
#pragma once
#include <vector>

#include "progress.hpp"
#include "workbench.hpp"

namespace lab {

enum class protocol { half_prompt, every_token };

struct perplexity_settings {
  int context = 1024;  // tokens in a chunk, the opening token included
  int chunks = 3;
  int first_token = 0;   // of the text, where the first chunk begins
  int prompt_piece = 0;  // prompts are fed in pieces of so many tokens; 0 = whole
  protocol feed = protocol::half_prompt;
};

struct perplexity_score {
  double perplexity = 0;      // over the second halves
  double perplexity_all = 0;  // over all positions; every_token only, otherwise 0
  double change = 0;          // perplexity / the reference's - 1
  double kl_mean = 0;         // KL(reference || recipe) of the next token's distribution [nats]
  double kl_p99 = 0;
  double same_top = 0;  // share of positions whose most likely token is the reference's
  int positions = 0;
};

struct cache_cost {
  double bytes_per_token = 0;  // held at the end of a chunk, per token seen
  double full_bytes = 0;       // of a cache that keeps every row in 16 bits, per token
  double compression = 0;      // full_bytes / bytes_per_token
  double bits_per_number = 0;  // of the rows that are kept
  double kept = 0;             // rows kept / rows seen
  double prompt_speed = 0;     // tokens per second of the whole model
  double decode_speed = 0;
  double decode_cache_time = 0;  // spent inside the cache, per decoded token [microseconds]
};

struct perplexity_result {
  perplexity_score score;
  cache_cost cost;
};

/// Throws std::runtime_error, with the reason, when the text is too short.
void check(const workbench& bench, const perplexity_settings& settings);

/// One result per recipe, in order.
std::vector<perplexity_result> measure_perplexity(const workbench& bench, const std::vector<std::string>& recipes,
                                                  const std::string& reference, const perplexity_settings& settings,
                                                  progress& says);

}  // namespace lab
