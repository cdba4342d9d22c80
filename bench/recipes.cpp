// SPDX-License-Identifier: Apache-2.0
// What do whole recipes cost? Attention mass, ragged heads, sparse reading, and decoding steps from append to commit.
#include "axes.hpp"
#include "data.hpp"
#include "record.hpp"

namespace bench {
namespace {

struct composed {
  const char* name;
  std::string text;
};

/// One comparison of decode attention; the recipe at an odd place is compared with the one before it.
void pairs(session& s, const std::string& part, const std::string& share, const block_of_rows& block, int rows,
           const std::vector<composed>& listed) {
  std::vector<composed> recipes;
  for (std::size_t i = 1; i < listed.size(); i += 2)
    if (s.wanted().wants(listed[i].name)) recipes.insert(recipes.end(), {listed[i - 1], listed[i]});
  if (recipes.empty()) return;
  s.threads().use(1);
  std::vector<std::unique_ptr<decoding>> caches(recipes.size());
  in_pairs(recipes.size(), [&](std::size_t i) {
    caches[i] = std::make_unique<decoding>(make(recipes[i].text, block.shape.model(), s.backend()), block, rows);
  });
  for (const int threads : s.thread_counts()) {
    s.threads().use(threads);
    std::vector<candidate> all = {{.name = "read", .run = [&] { s.stream().read(s.threads()); }, .always = true}};
    for (std::size_t i = 0; i < recipes.size(); ++i)
      all.push_back({.name = recipes[i].name, .run = [c = caches[i].get()] { c->attend(); }});
    const auto times = interleaved(all, s.seconds(3));
    for (std::size_t i = 0; i < recipes.size(); ++i) {
      record r = s.timed(recipes[i].name, part, block.shape, rows, threads, times[i + 1]);
      r.bytes = caches[i]->bytes();
      if (i % 2 == 1) {
        const double without = times[i].us;
        if (share == "signal_share")
          r.also[share] = r.time.us / without - 1;
        else
          r.also[share] = without / r.time.us;
      }
      s.add(r);
    }
  }
}

void mass(session& s, const block_of_rows& block, int rows) {
  const std::string everything = "h2o=1000000+256,";  // a budget that is never reached: mass alone
  const std::string dense = everything + "dense=f16", four = everything + "int4=32", two = everything + "affine=2+0";
  pairs(s, "mass that h2o asks for", "signal_share", block, rows,
        {{"dense f16", "dense=f16"},
         {"h2o, dense f16", dense},
         {"int4<>", "int4=32"},
         {"h2o, int4<>", four},
         {"affine<2, 0>", "affine=2+0"},
         {"h2o, affine<2, 0>", two}});
}

void ragged(session& s, const block_of_rows& block, int rows) {
  const std::string keep = "knorm=" + std::to_string(rows / 4), dense = keep + ",dense=f16", four = keep + ",int4=32",
                    uneven_dense = "uneven," + dense, uneven_four = "uneven," + four;
  pairs(s, "a quarter of the rows kept, ragged beside rectangular", "vs_plain", block, rows,
        {{"knorm, dense f16", dense},
         {"knorm, uneven, dense f16", uneven_dense},
         {"knorm, int4<>", four},
         {"knorm, uneven, int4<>", uneven_four}});
}

void sparse(session& s, const block_of_rows& block, int rows) {
  const std::string read = "quest=" + std::to_string(rows / 16), dense = read + ",dense=f16", four = read + ",int4=32";
  pairs(s, "a sixteenth of the rows read", "vs_plain", block, rows,
        {{"dense f16", "dense=f16"}, {"quest, dense f16", dense}, {"int4<>", "int4=32"}, {"quest, int4<>", four}});
}

/// Step, append, attend, commit of single tokens after `rows` tokens.
void decoding_steps(session& s, const block_of_rows& block, int rows) {
  static const composed recipes[] = {
      {"dense f16", "dense=f16"},
      {"int4<>", "int4=32"},
      {"sinks<4, int4<>>", "int4@sinks=32+4"},
      {"through<hadamard, int4<0>>", "int4@hadamard=0"},
      {"keys<int8<>>, values<int4<>>", "keys:int8=0,values:int4=32"},
      {"kivi<2>", "kivi=2+32+128"},
      {"streaming_llm, int4<>", "streaming_llm=4+2044,int4=32"},
      {"h2o, int4<>", "h2o=1024+1024,int4=32"},
      {"h2o, kivi<2>", "h2o=1024+1024,kivi=2+32+128"},
      {"quest, int4<>", "quest=1024,int4=32"},
  };
  constexpr int tokens = 32;
  for (const int threads : s.thread_counts()) {
    std::vector<std::unique_ptr<decoding>> caches(std::size(recipes));
    std::vector<candidate> all;
    s.threads().use(1);
    in_pairs(caches.size(), [&](std::size_t i) {
      caches[i] = std::make_unique<decoding>(make(recipes[i].text, block.shape.model(), s.backend()), block, rows);
    });
    s.threads().use(threads);
    for (std::size_t i = 0; i < caches.size(); ++i)
      if (s.wanted().wants(recipes[i].name))
        all.push_back({.name = recipes[i].name, .run = [c = caches[i].get()] {
                         for (int t = 0; t < tokens; ++t) {
                           c->attend();
                           c->step->commit();
                           c->open();
                         }
                       }});
    const auto times = interleaved(all, s.seconds(4));
    for (std::size_t i = 0; i < all.size(); ++i) {
      record r =
          s.timed(all[i].name, "a token, from append to commit", block.shape, rows, threads, times[i].per(tokens));
      r.vs_dense_f16 = times[0].us / times[i].us;
      for (std::size_t c = 0; c < caches.size(); ++c)
        if (all[i].name == recipes[c].name) r.bytes = caches[c]->bytes();
      s.add(r);
    }
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return run("recipes", argc, argv, [](session& s) {
    const block_of_rows block(llama3_8b, 4096);
    for (const int rows : s.rows_or({s.wanted().quick ? 4096 : 16384})) {
      mass(s, block, rows);
      ragged(s, block, rows);
      sparse(s, block, 2 * rows);
      decoding_steps(s, block, rows);
    }
  });
}
