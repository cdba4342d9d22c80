// SPDX-License-Identifier: Apache-2.0
// What does the end of a long prompt cost? Rows are scored, selected, removed and packed, beside the attention that the
// same prompt needed anyway.
#include "axes.hpp"
#include "data.hpp"
#include "record.hpp"

namespace bench {
namespace {

struct trimmed {
  const char* name;
  const char* text;
  bool at_once;  // one step, as nothing needs the queries; otherwise chunks of 2048 rows are packed before
};

const trimmed recipes_of_trims[] = {
    {"int4<> (no trim)", "int4=32", true},
    {"kivi<2> (no trim)", "kivi=2+32+128", true},
    {"streaming_llm, int4<>", "streaming_llm=4+1020,int4=32", true},
    {"knorm, int4<>", "knorm=1024,int4=32", true},
    {"h2o, int4<>", "h2o=512+512,int4=32", false},
    {"snapkv, int4<>", "snapkv=1024+32+5,int4=32", false},
    {"snapkv, ada, kivi<2>", "snapkv=1024+32+5,ada,kivi=2+32+128", false},
};

constexpr int window = 32;  // tokens of the last chunk, the only ones that attend

/// A prompt up to its last commit.
struct prompt_end {
  kv::any_cache cache;
  kv::any_sequence sequence;
  std::unique_ptr<kv::any_step> step;

  prompt_end(kv::any_cache made, const block_of_rows& block, int rows, bool at_once)
      : cache(std::move(made)), sequence(cache.open()) {
    const int last = at_once ? rows : window;
    fill(sequence, block, rows - last, true);
    step = std::make_unique<kv::any_step>(sequence.step(last));
    if (at_once) {
      step->append(0, block.keys(0, rows), block.values(0, rows));
      return;
    }
    step->append(0, block.keys(0, last), block.values(0, last));
    const int heads = block.shape.query_heads();
    const std::vector<float> q = normal(static_cast<std::size_t>(last * heads * dim), 7, 2.0f);
    std::vector<float> out(q.size());
    step->attend(0, kv::view(q.data(), last, heads, dim), kv::view(out.data(), last, heads, dim));
  }
};

/// Attention of the whole prompt, from that of 64 tokens in its middle: the cost of a token grows with its position.
double prompt_attention(session& s, const block_of_rows& block, int rows) {
  constexpr int n = 64;
  const int heads = block.shape.query_heads();
  kv::any_cache cache = make("dense=f16", block.shape.model(), s.threads().backend());
  kv::any_sequence sequence = cache.open();
  fill(sequence, block, (rows - n) / 2, true);
  kv::any_step step = sequence.step(n);
  step.append(0, block.keys(0, n), block.values(0, n));
  const std::vector<float> q = normal(static_cast<std::size_t>(n * heads * dim), 7, 2.0f);
  std::vector<float> out(q.size());
  const auto times = interleaved(
      {{.name = "attend",
        .run = [&] { step.attend(0, kv::view(q.data(), n, heads, dim), kv::view(out.data(), n, heads, dim)); }}},
      s.seconds(1));
  return times[0].us * rows / n;
}

void trims(session& s, const block_of_rows& block) {
  const int rows = block.rows;
  std::vector<double> prompt;
  for (const int threads : s.thread_counts()) {
    s.threads().use(threads);
    prompt.push_back(prompt_attention(s, block, rows));
    record r = s.blank("attention of the prompt", "", block.shape, rows, threads);
    r.time.us = r.time.low = r.time.high = prompt.back();
    s.add(r);
  }
  s.threads().use(1);  // a commit is one thread's work
  std::vector<std::unique_ptr<prompt_end>> ends(std::size(recipes_of_trims));
  std::vector<candidate> all;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const trimmed& t = recipes_of_trims[i];
    if (!s.wanted().wants(t.name)) continue;
    all.push_back({.name = t.name,
                   .run = [&ends, i] { ends[i]->step->commit(); },
                   .before =
                       [&, i] {
                         ends[i].reset();
                         ends[i] = std::make_unique<prompt_end>(
                             make(recipes_of_trims[i].text, block.shape.model(), kv::cpu{}), block, block.rows,
                             recipes_of_trims[i].at_once);
                       }});
  }
  const auto times = interleaved(all, 0.01, s.wanted().quick ? 1 : 3);
  for (std::size_t i = 0; i < all.size(); ++i) {
    record r = s.blank(all[i].name, "the last commit of the prompt", block.shape, rows, 1);
    r.time = times[i];
    if (ends[i]) r.bytes = ends[i]->cache.report().bytes;
    r.also["of_prompt"] = times[i].us / prompt.back();
    s.add(r);
  }
  s.note("shares are of the prompt's attention with " + std::to_string(s.thread_counts().back()) + " threads");
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  options wanted;
  if (const auto code = parse(wanted, "trim", argc, argv)) return *code;
  session s("trim", wanted);
  for (const int rows : wanted.rows.empty() ? std::vector{wanted.quick ? 4096 : 32768} : wanted.rows)
    trims(s, block_of_rows(llama3_8b, rows));
  return s.finish();
}
