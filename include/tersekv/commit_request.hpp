// SPDX-License-Identifier: Apache-2.0
// What a commit was asked for, and when rows are let go: the same wherever the cache computes.
#pragma once
#include <algorithm>
#include <string>

#include <tersekv/error.hpp>
#include <tersekv/policy.hpp>

namespace tersekv::detail {

/// Steps of at most this many tokens keep the mass of every query apart, so that a step may be accepted in part.
inline constexpr int separate_queries = 64;
constexpr int signal_rows(int n) { return n <= separate_queries ? n : 2; }  // otherwise: the sum, and the last query

/// How many of the observed queries a step of n tokens keeps for a window of them: enough for every number of accepted
/// tokens.
constexpr int kept_queries(int window, int n, int observed) {
  return n <= separate_queries ? observed : std::min(window, observed);
}

struct commit_request {
  int tokens;    // of the step
  int accepted;  // of them, to be committed
  int kept;      // queries that the step was allowed to observe
  int observed;  // of them, those of accepted tokens
  bool more, decode;

  /// in_prompt: the step before was marked `more`.
  bool is_prompt(bool in_prompt) const { return more || in_prompt || (tokens > 1 && !decode); }
  /// decoded: tokens before this step.
  bool trim_is_due(const trigger& when, bool in_prompt, int decoded) const {
    if (more) return when.chunks;
    if (is_prompt(in_prompt)) return when.prompt_end;
    return when.every > 0 && (decoded + accepted) / when.every > decoded / when.every;
  }
  /// Throws where a long step is accepted in part though its attention is observed.
  void check_observed(bool observes) const {
    if (observes && accepted < tokens && tokens > separate_queries)
      throw usage_error("tersekv::step::commit: " + std::to_string(accepted) + " of " + std::to_string(tokens) +
                        " tokens accepted, but this recipe observes attention, which is kept per query only for "
                        "steps of up to " +
                        std::to_string(separate_queries) + " tokens");
  }
};

}  // namespace tersekv::detail
