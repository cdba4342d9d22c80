// SPDX-License-Identifier: Apache-2.0
// What does the end of a long prompt cost? Rows are scored, selected, removed and packed, beside the attention that the
// same prompt needed anyway.
#include "prompt.hpp"

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

void trims(session& s, const block_of_rows& block) {
  const int rows = block.rows;
  std::vector<double> prompt;
  for (const int threads : s.thread_counts()) {
    s.threads().use(threads);
    const double us = attention_of_prompt(s, block, rows);
    prompt.push_back(us);
    s.add(s.timed("attention of the prompt", "", block.shape, rows, threads, {us, us, us}));
  }
  s.threads().use(1);  // a commit is one thread's work
  std::vector<std::unique_ptr<prompting>> ends(std::size(recipes_of_trims));
  std::vector<candidate> all;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const trimmed& t = recipes_of_trims[i];
    if (!s.wanted().wants(t.name)) continue;
    all.push_back({.name = t.name,
                   .run = [&ends, i] { ends[i]->step->commit(); },
                   .before =
                       [&, i] {
                         ends[i].reset();
                         const trimmed& t = recipes_of_trims[i];
                         const int last = t.at_once ? rows : window;
                         ends[i] = std::make_unique<prompting>(
                             make(t.text, block.shape.model(), kv::cpu{.memory = s.memory()}), block, rows - last,
                             last);
                         if (!t.at_once) ends[i]->attend();
                       }});
  }
  const auto times = interleaved(all, 0.01, s.wanted().quick ? 1 : 3);
  for (std::size_t i = 0; i < all.size(); ++i) {
    record r = s.timed(all[i].name, "the last commit of the prompt", block.shape, rows, 1, times[i]);
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
  return run("trim", argc, argv, [](session& s) {
    for (const int rows : s.rows_or({s.wanted().quick ? 4096 : 32768})) trims(s, block_of_rows(llama3_8b, rows));
  });
}
