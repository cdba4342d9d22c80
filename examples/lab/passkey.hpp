// SPDX-License-Identifier: Apache-2.0
//
// Exact retrieval: text with one line "The code of <word> is <5 digits>." at some depth, then the question
// "The code of <word> is "; the model must answer with the five digits, greedily. For models that speak bytes.
//
// Two settings, because they tell opposite stories about methods that look at the queries:
//   seen    context and question are one prompt, so the question is known when the recipe compresses
//   unseen  the context is a step of its own and is compressed before the question comes
// In both the last byte of the question is a step of its own: every digit is read from a compressed cache.
#pragma once
#include <vector>

#include "progress.hpp"
#include "workbench.hpp"

namespace lab {

struct passkey_settings {
  std::vector<int> lengths = {512, 1024};  // tokens of context, question and answer
  int depths = 4;                          // the line stands at (i + 0.5) / depths of the context
  int trials = 2;                          // prompts per length and depth, each with its own text, word and digits
  int prompt_piece = 0;                    // prompts are fed in pieces of so many tokens; 0 = whole
  bool seen = true, unseen = true;

  bool off() const { return lengths.empty() || depths < 1 || trials < 1 || !(seen || unseen); }
};

/// Prompts of one length, depth and setting.
struct passkey_cell {
  int length = 0;
  double depth = 0;
  bool seen = false;
  int prompts = 0, exact = 0, digits = 0;  // digits: of 5 per prompt, at the right place
  double bytes = 0;                        // held after the answer, summed over prompts
};

struct passkey_result {
  std::vector<passkey_cell> cells;
  /// Share of prompts answered exactly, or of digits, in one setting; -1 when it was not asked for.
  double exact(bool seen) const;
  double digits(bool seen) const;
  double bytes_per_token() const;  // held after the answer, over all prompts and settings
};

/// Throws std::runtime_error, with the reason, when a prompt of these lengths cannot be made of the text.
void check(const workbench& bench, const passkey_settings& settings);

/// One result per recipe, in order; without cells when the settings are off or the model does not speak bytes.
std::vector<passkey_result> measure_passkey(const workbench& bench, const std::vector<std::string>& recipes,
                                            const passkey_settings& settings, progress& says);

}  // namespace lab
