// SPDX-License-Identifier: Apache-2.0
#include "passkey.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "parallel.hpp"

namespace lab {
namespace {

constexpr int digits_asked = 5;
constexpr std::array<std::string_view, 20> words = {
    "river",  "apple",  "stone",  "cloud",  "tiger",  "piano",  "lemon",  "castle", "wagon",  "candle",
    "forest", "silver", "bridge", "monkey", "garden", "rocket", "pepper", "window", "button", "island"};

/// SplitMix64: the same prompts everywhere, which standard distributions do not promise.
struct random_source {
  std::uint64_t state;
  int below(int end) {
    state += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<int>((z ^ (z >> 31)) % static_cast<std::uint64_t>(end));
  }
};

struct prompt {
  std::vector<int> context, question;
  std::string answer;
  int length_index, depth_index;
};

prompt make_prompt(const workbench& bench, const passkey_settings& s, int length_index, int depth_index, int trial) {
  const int length = s.lengths[at(length_index)];
  random_source random{(static_cast<std::uint64_t>(length) << 32) + at(depth_index) * 1000003u + at(trial)};
  prompt p{.context = {}, .question = {}, .answer = {}, .length_index = length_index, .depth_index = depth_index};
  const std::string question = "\nThe code of " + std::string(words[at(random.below(words.size()))]) + " is ";
  for (int i = 0; i < digits_asked; ++i) p.answer += static_cast<char>('0' + random.below(10));
  const std::vector<int> line = bench.tokenizer.encode(question + p.answer + ".\n");
  p.question = bench.tokenizer.encode(question);

  const int opening = bench.opening ? 1 : 0;
  const int filler = length - opening - static_cast<int>(line.size() + p.question.size()) - digits_asked;
  const auto from = bench.text.begin() + random.below(static_cast<int>(bench.text.size()) - filler);
  const double depth = (depth_index + 0.5) / s.depths;
  const auto cut = from + std::lround(depth * filler);
  if (bench.opening) p.context.push_back(bench.tokenizer.opening_token());
  p.context.insert(p.context.end(), from, cut);
  p.context.insert(p.context.end(), line.begin(), line.end());
  p.context.insert(p.context.end(), cut, from + filler);
  return p;
}

struct reply {
  std::string digits;
  double bytes = 0;  // held afterwards
};

reply ask(const workbench& bench, runner& run, const std::string& recipe, const prompt& p, bool seen,
          const passkey_settings& s) {
  kv::any_cache cache = bench.make(recipe);
  auto chat = cache.open();
  const auto feed_prompt = [&](std::span<const int> tokens) {
    const std::size_t piece = s.prompt_piece > 0 ? at(s.prompt_piece) : tokens.size();
    for (; !tokens.empty(); tokens = tokens.subspan(std::min(piece, tokens.size())))
      run.feed(cache, chat, tokens.first(std::min(piece, tokens.size())),
               {.more = piece < tokens.size(), .logits = false});
  };
  const auto question = std::span(p.question);
  const auto all_but_last = question.first(question.size() - 1);
  if (seen) {
    std::vector<int> together = p.context;
    together.insert(together.end(), all_but_last.begin(), all_but_last.end());
    feed_prompt(together);
  } else {
    feed_prompt(p.context);
    feed_prompt(all_but_last);
  }
  reply answer;
  int token = question.back();
  for (int i = 0; i < digits_asked; ++i) {
    token = most_likely(run.feed(cache, chat, std::span(&token, 1)));
    answer.digits += static_cast<char>(token);
  }
  answer.bytes = static_cast<double>(chat.report().bytes);
  return answer;
}

double share(const std::vector<passkey_cell>& cells, bool seen, int passkey_cell::*right, int per_prompt) {
  int got = 0, of = 0;
  for (const passkey_cell& c : cells)
    if (c.seen == seen) got += c.*right, of += per_prompt * c.prompts;
  return of == 0 ? -1 : static_cast<double>(got) / of;
}

}  // namespace

void check(const workbench& bench, const passkey_settings& s) {
  if (s.off() || !bench.tokenizer.is_bytes()) return;
  constexpr int shortest = 128;  // room for both lines, the answer and some text
  for (int length : s.lengths) {
    if (length < shortest)
      throw std::runtime_error("Passkey prompts have at least " + std::to_string(shortest) + " tokens, not " +
                               std::to_string(length) + ".");
    if (length > static_cast<int>(bench.text.size()))
      throw std::runtime_error("A passkey prompt of " + std::to_string(length) + " tokens needs a text as long, but " +
                               "the text has " + std::to_string(bench.text.size()) + " tokens.");
  }
}

double passkey_result::exact(bool seen) const { return share(cells, seen, &passkey_cell::exact, 1); }
double passkey_result::digits(bool seen) const { return share(cells, seen, &passkey_cell::digits, digits_asked); }

double passkey_result::bytes_per_token() const {
  double bytes = 0, tokens = 0;
  for (const passkey_cell& c : cells) bytes += c.bytes, tokens += static_cast<double>(c.length) * c.prompts;
  return bytes / tokens;
}

std::vector<passkey_result> measure_passkey(const workbench& bench, const std::vector<std::string>& recipes,
                                            const passkey_settings& s, progress& says) {
  std::vector<passkey_result> out(recipes.size());
  if (s.off() || !bench.tokenizer.is_bytes()) return out;
  check(bench, s);

  std::vector<prompt> prompts;
  const int lengths = static_cast<int>(s.lengths.size());
  for (int length = 0; length < lengths; ++length)
    for (int depth = 0; depth < s.depths; ++depth)
      for (int trial = 0; trial < s.trials; ++trial) prompts.push_back(make_prompt(bench, s, length, depth, trial));

  struct item {
    int recipe, prompt;
    bool seen;
    reply answer = {};
  };
  std::vector<item> items;
  for (int r = 0; r < static_cast<int>(recipes.size()); ++r)
    for (const bool seen : {true, false})
      for (int p = 0; p < static_cast<int>(prompts.size()); ++p)
        if (seen ? s.seen : s.unseen) items.push_back({r, p, seen});
  std::vector<runner> runners(at(bench.threads), runner(bench.model));
  says.start("passkey", static_cast<int>(items.size()));
  parallel_for(static_cast<int>(items.size()), bench.threads, [&](int i, int worker) {
    item& it = items[at(i)];
    it.answer = ask(bench, runners[at(worker)], recipes[at(it.recipe)], prompts[at(it.prompt)], it.seen, s);
    says.tick();
  });
  says.finish();

  for (passkey_result& r : out)
    for (const bool seen : {true, false})
      for (int length : s.lengths)
        for (int d = 0; d < s.depths; ++d)
          if (seen ? s.seen : s.unseen)
            r.cells.push_back({.length = length, .depth = (d + 0.5) / s.depths, .seen = seen});
  for (const item& it : items) {
    const prompt& p = prompts[at(it.prompt)];
    const int setting = it.seen || !s.seen ? 0 : lengths * s.depths;
    passkey_cell& cell = out[at(it.recipe)].cells[at(setting + p.length_index * s.depths + p.depth_index)];
    ++cell.prompts;
    cell.bytes += it.answer.bytes;
    if (it.answer.digits == p.answer) ++cell.exact;
    for (std::size_t i = 0; i < p.answer.size(); ++i)
      if (it.answer.digits[i] == p.answer[i]) ++cell.digits;
  }
  return out;
}

}  // namespace lab
