// SPDX-License-Identifier: Apache-2.0
// What does writing cost? Encoding alone, row by row (or as few rows as the codec packs together) and 32 rows at a
// time; and whole steps without attention: staging, plan, encoding, columns.
#include "axes.hpp"
#include "data.hpp"
#include "record.hpp"

namespace bench {
namespace {

void encode(session& s, const std::vector<recipe>& recipes) {
  constexpr int rows = 512;  // numbers and pages stay in the second-level cache: writing, not reading, is measured
  const rows_of_head some{normal(rows * dim, 1), normal(rows * dim, 2)};
  for (const int together : {1, 32}) {
    std::vector<candidate> all;
    for (const recipe& r : recipes) all.push_back({.name = r.name, .run = r.encode(some, dim, together)});
    const auto times = interleaved(all, s.seconds(2));
    for (std::size_t i = 0; i < all.size(); ++i) {
      record r = s.timed(all[i].name, together == 1 ? "encoding row by row" : "encoding 32 rows at a time", {1, 1, dim},
                         rows, 1, times[i]);
      r.also["ns_per_value"] = 1e3 * times[i].us / (2.0 * rows * dim);
      r.vs_dense_f16 = times[0].us / times[i].us;
      s.add(r);
    }
  }
}

void steps(session& s, const std::vector<recipe>& recipes, head_shape shape) {
  const block_of_rows block(shape, 2048);
  for (const int n : {1, 256}) {
    const int steps = n == 1 ? 32 : 1;  // codecs that pack 32 rows at once do so every 32nd step
    std::vector<std::unique_ptr<kv::any_cache>> caches;
    std::vector<std::unique_ptr<kv::any_sequence>> sequences;
    std::vector<candidate> all;
    for (const recipe& r : recipes) {
      caches.push_back(std::make_unique<kv::any_cache>(r.make(shape.model(), kv::cpu{.memory = s.memory()})));
      sequences.push_back(std::make_unique<kv::any_sequence>(caches.back()->open()));
      fill(*sequences.back(), block, 4096);
      all.push_back({.name = r.name, .run = [&block, n, steps, sequence = sequences.back().get()] {
                       for (int i = 0; i < steps; ++i) {
                         auto step = sequence->step(n);
                         step.append(0, block.keys(i, n), block.values(i, n));
                         step.commit();
                       }
                     }});
    }
    const auto times = interleaved(all, s.seconds(3));
    for (std::size_t i = 0; i < all.size(); ++i) {
      record r =
          s.timed(all[i].name, n == 1 ? "a step of 1 token" : "a step of 256 tokens", shape, n, 1, times[i].per(steps));
      r.also["ns_per_value"] = 1e3 * r.time.us / (2.0 * n * shape.kv_heads * dim);
      r.vs_dense_f16 = times[0].us / times[i].us;
      s.add(r);
    }
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return run("append", argc, argv, [](session& s) {
    s.threads().use(1);
    std::vector<recipe> recipes = all_of_them().codecs;
    std::erase_if(recipes, [&](const recipe& r) { return !s.wanted().wants(r.name); });
    encode(s, recipes);
    steps(s, recipes, llama3_8b);
  });
}
