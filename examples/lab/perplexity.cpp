// SPDX-License-Identifier: Apache-2.0
#include "perplexity.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "parallel.hpp"

namespace lab {
namespace {

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }
/// One chunk under one recipe.
struct chunk_result {
  std::vector<float> log_probabilities;  // [positions, vocab] of the second half; the reference's only
  std::vector<float> divergence;         // [positions] from the reference
  double loss = 0, loss_all = 0;         // sums of -log p
  int positions = 0, positions_all = 0, same_top = 0;
  double prompt_seconds = 0, decode_seconds = 0, decode_cache_seconds = 0;
  int prompt_tokens = 0, decode_tokens = 0;
  double bytes = 0, full_bytes = 0, bits = 0, rows_seen = 0, rows_kept = 0;
};

struct chunk {
  std::vector<int> tokens;  // [context], opened if the model wants it
  int next = 0;             // the token after the last one
};

/// New tokens of the text in a chunk.
int stride_of(const workbench& bench, const perplexity_settings& s) { return s.context - (bench.opening ? 1 : 0); }

std::vector<chunk> cut(const workbench& bench, const perplexity_settings& s) {
  const int stride = stride_of(bench, s);
  std::vector<chunk> chunks(at(s.chunks));
  for (int i = 0; i < s.chunks; ++i) {
    const auto from = bench.text.begin() + s.first_token + i * stride;
    if (bench.opening) chunks[at(i)].tokens.push_back(bench.tokenizer.opening_token());
    chunks[at(i)].tokens.insert(chunks[at(i)].tokens.end(), from, from + stride);
    chunks[at(i)].next = *(from + stride);
  }
  return chunks;
}

void log_softmax(std::span<const float> logits, std::span<float> out) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x - most));
  const auto log_sum = static_cast<float>(std::log(sum)) + most;
  for (std::size_t i = 0; i < logits.size(); ++i) out[i] = logits[i] - log_sum;
}

double kl_divergence(std::span<const float> p, std::span<const float> q) {  // of log-probabilities
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    sum += std::exp(static_cast<double>(p[i])) * (static_cast<double>(p[i]) - static_cast<double>(q[i]));
  return std::max(sum, 0.0);
}

/// Runs one chunk; compares with `reference` if there is one, otherwise keeps the log-probabilities.
chunk_result run_chunk(const workbench& bench, runner& run, const std::string& recipe, const chunk& c,
                       const perplexity_settings& s, const chunk_result* reference) {
  kv::any_cache cache = bench.make(recipe);
  auto chat = cache.open();
  chunk_result r;
  const std::size_t vocab = at(bench.model.dims.vocab);
  const int half = s.context / 2;
  std::vector<float> now(vocab);

  const int prompt = s.feed == protocol::half_prompt ? half : 0;
  const int piece = s.prompt_piece > 0 ? s.prompt_piece : std::max(prompt, 1);
  const auto start = clock::now();
  for (int i = 0; i < prompt; i += piece) {
    const int n = std::min(piece, prompt - i);
    run.feed(cache, chat, std::span(c.tokens).subspan(at(i), at(n)), {.more = i + n < prompt, .logits = false});
  }
  r.prompt_seconds = seconds_since(start);
  r.prompt_tokens = prompt;

  for (int i = prompt; i < s.context; ++i) {
    const double cache_before = run.cache_seconds();
    const auto begin = clock::now();
    const auto logits = run.feed(cache, chat, std::span(c.tokens).subspan(at(i), 1));
    r.decode_seconds += seconds_since(begin);
    r.decode_cache_seconds += run.cache_seconds() - cache_before;
    log_softmax(logits, now);
    const int target = i + 1 < s.context ? c.tokens[at(i + 1)] : c.next;
    const double loss = -static_cast<double>(now[at(target)]);
    r.loss_all += loss;
    ++r.positions_all;
    if (i < half) continue;
    r.loss += loss;
    ++r.positions;
    if (reference == nullptr) {
      r.log_probabilities.insert(r.log_probabilities.end(), now.begin(), now.end());
      r.divergence.push_back(0);
      ++r.same_top;
    } else {
      const auto full = std::span(reference->log_probabilities).subspan(at(i - half) * vocab, vocab);
      r.divergence.push_back(static_cast<float>(kl_divergence(full, now)));
      if (most_likely(full) == most_likely(now)) ++r.same_top;
    }
  }
  r.decode_tokens = s.context - prompt;

  const kv::report_data report = chat.report();
  r.bytes = static_cast<double>(report.bytes);
  r.full_bytes = static_cast<double>(report.full_bytes_f16);
  r.bits = static_cast<double>(report.bits_per_number);
  r.rows_seen = static_cast<double>(report.rows_seen);
  r.rows_kept = static_cast<double>(report.rows_kept);
  return r;
}

perplexity_result summarise(std::span<const chunk_result> chunks, const perplexity_settings& s, double reference_loss) {
  chunk_result sum;
  for (const chunk_result& c : chunks) {
    sum.divergence.insert(sum.divergence.end(), c.divergence.begin(), c.divergence.end());
    sum.loss += c.loss, sum.loss_all += c.loss_all;
    sum.positions += c.positions, sum.positions_all += c.positions_all, sum.same_top += c.same_top;
    sum.prompt_seconds += c.prompt_seconds, sum.decode_seconds += c.decode_seconds;
    sum.decode_cache_seconds += c.decode_cache_seconds;
    sum.prompt_tokens += c.prompt_tokens, sum.decode_tokens += c.decode_tokens;
    sum.bytes += c.bytes, sum.full_bytes += c.full_bytes, sum.bits += c.bits;
    sum.rows_seen += c.rows_seen, sum.rows_kept += c.rows_kept;
  }
  perplexity_result r;
  const double tokens = static_cast<double>(s.context) * static_cast<double>(chunks.size());
  r.score.positions = sum.positions;
  r.score.perplexity = std::exp(sum.loss / sum.positions);
  if (s.feed == protocol::every_token) r.score.perplexity_all = std::exp(sum.loss_all / sum.positions_all);
  r.score.change = std::expm1((sum.loss - reference_loss) / sum.positions);
  r.score.same_top = static_cast<double>(sum.same_top) / sum.positions;
  for (float kl : sum.divergence) r.score.kl_mean += static_cast<double>(kl) / sum.positions;
  const auto rank = static_cast<long>(std::ceil(0.99 * sum.positions)) - 1;
  std::nth_element(sum.divergence.begin(), sum.divergence.begin() + rank, sum.divergence.end());
  r.score.kl_p99 = static_cast<double>(sum.divergence[static_cast<std::size_t>(rank)]);
  r.cost.bytes_per_token = sum.bytes / tokens;
  r.cost.full_bytes = sum.full_bytes / tokens;
  r.cost.compression = sum.full_bytes / sum.bytes;
  r.cost.bits_per_number = sum.bits / static_cast<double>(chunks.size());
  r.cost.kept = sum.rows_kept / sum.rows_seen;
  if (sum.prompt_tokens > 0) r.cost.prompt_speed = sum.prompt_tokens / sum.prompt_seconds;
  r.cost.decode_speed = sum.decode_tokens / sum.decode_seconds;
  r.cost.decode_cache_time = 1e6 * sum.decode_cache_seconds / sum.decode_tokens;
  return r;
}

}  // namespace

void check(const workbench& bench, const perplexity_settings& s) {
  const long wanted = s.first_token + static_cast<long>(s.chunks) * stride_of(bench, s) + 1;
  if (wanted > static_cast<long>(bench.text.size()))
    throw std::runtime_error(std::to_string(s.chunks) + " chunks of " + std::to_string(s.context) + " tokens from " +
                             std::to_string(s.first_token) + " on need " + std::to_string(wanted) +
                             " tokens, but the text has " + std::to_string(bench.text.size()) + ".");
}

std::vector<perplexity_result> measure_perplexity(const workbench& bench, const std::vector<std::string>& recipes,
                                                  const std::string& reference, const perplexity_settings& s,
                                                  progress& says) {
  check(bench, s);
  const std::vector<chunk> chunks = cut(bench, s);
  std::vector<runner> runners(at(bench.threads), runner(bench.model));
  const auto run_all = [&](const std::string& what, int count, auto&& body) {
    says.start(what, count);
    parallel_for(count, bench.threads, [&](int i, int worker) {
      body(i, runners[at(worker)]);
      says.tick();
    });
    says.finish();
  };

  std::vector<chunk_result> full(at(s.chunks));
  run_all("perplexity of " + reference, s.chunks,
          [&](int i, runner& run) { full[at(i)] = run_chunk(bench, run, reference, chunks[at(i)], s, nullptr); });
  double reference_loss = 0;
  for (const chunk_result& c : full) reference_loss += c.loss;

  struct item {
    int recipe, chunk;
  };
  std::vector<item> items;
  std::vector<std::vector<chunk_result>> results(recipes.size(), std::vector<chunk_result>(at(s.chunks)));
  for (int r = 0; r < static_cast<int>(recipes.size()); ++r)
    for (int i = 0; i < s.chunks; ++i)
      if (recipes[at(r)] != reference) items.push_back({r, i});
  run_all("perplexity", static_cast<int>(items.size()), [&](int i, runner& run) {
    const auto [r, c] = items[at(i)];
    results[at(r)][at(c)] = run_chunk(bench, run, recipes[at(r)], chunks[at(c)], s, &full[at(c)]);
  });

  std::vector<perplexity_result> out;
  for (std::size_t r = 0; r < recipes.size(); ++r)
    out.push_back(summarise(recipes[r] == reference ? full : results[r], s, reference_loss));
  return out;
}

}  // namespace lab
