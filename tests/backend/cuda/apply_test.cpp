// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
#include "apply_scene.hpp"

#include <tersekv/tersekv.hpp>

#include "simt/sanitizers.hpp"

using namespace test;

namespace apply_test {

/// What a test of commits varies.
struct story {
  double leaves = 0;      // share of rows that a trim lets go
  int trim_every = 3;     // commits
  bool in_order = false;  // rows leave from the oldest on
  double changed = 0;     // share of rows that merging rewrites
  int dim = 20;
  int commits = 12;
  int first = 1;  // rows of the first commit
};

template <class Head>
commit_data random_commit(const Head& head, const story& s, int accepted, bool trim, int columns, bool biased,
                          bool packed_too, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::bernoulli_distribution leaves(s.leaves), changes(s.changed);
  commit_data c{};
  c.accepted = accepted;
  const auto fill = [&](std::vector<float>& x, int n) {
    x.resize(at(n));
    for (float& v : x) v = normal(random);
  };
  fill(c.keys, accepted * s.dim), fill(c.values, accepted * s.dim), fill(c.state, accepted * columns);
  if (!trim) return c;
  const auto& host = head.host();
  const int list = host.live() + accepted;
  c.keep.assign(at(list), 1);
  for (auto& k : c.keep) k = !leaves(random);
  if (s.in_order) std::sort(c.keep.begin(), c.keep.end());
  if (s.changed == 0) return c;
  for (int i = 0, l = 0; i < host.slots() + accepted; ++i) {
    if (i < host.slots() && host.position()[at(i)] < 0) continue;
    const bool may = i >= host.slots() || !host.is_packed(i) || packed_too;
    c.changed.push_back(may && c.keep[at(l)] && changes(random));
    ++l;
  }
  fill(c.new_keys, list * s.dim), fill(c.new_values, list * s.dim), fill(c.new_bias, list);
  if (!biased) c.new_bias.clear();
  return c;
}

template <class Codec, int Columns = 0, bool Biased = false, class Read = kv::read_all>
void same_rows(const story& s, const Codec& codec = {}) {
  using heads = two_heads<Codec, Read, Columns, Biased>;
  const int commits = simt::address_sanitizer ? std::min(s.commits, 6) : s.commits;
  for (const auto schedule : {simt::order::fifo, simt::order::random}) {
    if (simt::address_sanitizer && schedule == simt::order::fifo) continue;
    const simt::with settings({.schedule = schedule});
    const typename heads::page_type page(codec, Read{}, s.dim, s.dim);
    device_pages pages(page.bytes(), 200);
    {
      kv::pool pool(std::pmr::new_delete_resource(), page.bytes(), 0);
      heads head(pool, pages, page);
      std::mt19937 random(1);
      const int steps[] = {1, 2, 50, 1, 0, 33, 7, 1, 128, 3, 1, 40};
      for (int i = 0; i < commits; ++i) {
        INFO("commit " << i);
        const bool trim = s.leaves > 0 && i % s.trim_every == s.trim_every - 1;
        const auto next = [&](const heads& h) {
          return random_commit(h, s, i == 0 ? s.first : steps[i % 12], trim, Columns, Biased, heads::span == 1, random);
        };
        if (i % 4 == 3) {  // a fork goes its own way; the original must not notice
          heads fork(head);
          fork.commit(next(fork));
          fork.commit(next(fork));
        }
        head.commit(next(head));
      }
    }
    CHECK(pages.held() == 0);
  }
}

TEST_CASE("rows enter as on the CPU", "[apply]") {
  same_rows<kv::int4<>>({});
  same_rows<kv::dense<kv::half>, 2>({.dim = 17});
  same_rows<kv::sinks<4, kv::q4_0>, 1>({.dim = 32});
  same_rows<kv::kivi<2, 16, 40>>({.dim = 32});
}
TEST_CASE("rows leave as on the CPU", "[apply]") {
  same_rows<kv::int4<>, 1>({.leaves = 0.3});
  same_rows<kv::int8<>, 3, true>({.leaves = 0.8, .trim_every = 2});
  same_rows<kv::sinks<4, kv::q4_0>, 1>({.leaves = 0.5, .dim = 32});
  same_rows<kv::dense<float>>({.leaves = 0.95, .trim_every = 4});
  same_rows<kv::int4<>>({.leaves = 1, .trim_every = 5});
}
TEST_CASE("few rows leave at a time as on the CPU", "[apply]") {
  same_rows<kv::int4<>, 1>({.leaves = 0.02, .trim_every = 1, .commits = 24, .first = 330});
  same_rows<kv::int8<>, 0, false, kv::quest>({.leaves = 0.03, .trim_every = 1, .dim = 16, .commits = 16, .first = 200});
  same_rows<kv::sinks<4, kv::q4_0>, 2, true>(
      {.leaves = 0.04, .trim_every = 1, .changed = 0.1, .dim = 32, .first = 150});
}
TEST_CASE("spans of rows are joined as on the CPU", "[apply]") {
  same_rows<kv::kivi<2, 32, 32>, 1>({.leaves = 0.4, .trim_every = 2, .dim = 16});
  same_rows<kv::kivi<4, 8, 0>, 2, true>({.leaves = 0.6, .trim_every = 2, .dim = 16});
  same_rows<kv::kivi<2, 64, 16>>({.leaves = 0.7, .trim_every = 3, .dim = 16});
}
TEST_CASE("sealed spans leave by page", "[apply]") {
  same_rows<kv::kivi<2, 32, 32, kv::sealed>, 1>({.leaves = 0.6, .trim_every = 2, .in_order = true, .dim = 16});
}
TEST_CASE("merged rows are rewritten as on the CPU", "[apply]") {
  same_rows<kv::int4<>, 1, true>({.leaves = 0.3, .changed = 0.4});
  same_rows<kv::sinks<3, kv::kivi<4, 8, 24>>, 1, true>({.leaves = 0.3, .changed = 0.5, .dim = 16});
}
TEST_CASE("summaries of pages follow", "[apply]") {
  same_rows<kv::int4<>, 1, false, kv::quest>({.leaves = 0.5, .changed = 0.3});
  same_rows<kv::int8<>, 0, false, kv::quest>({.leaves = 0.02, .changed = 0.3});
  same_rows<kv::kivi<2, 32, 0>, 0, false, kv::quest>({.leaves = 0.5, .dim = 16});
  same_rows<kv::through<kv::hadamard, kv::int4<>>, 0, false, kv::quest>({.leaves = 0.5, .dim = 16, .commits = 6});
}
TEST_CASE("long heads", "[apply]") { same_rows<kv::int4<>, 1>({.leaves = 0.1, .dim = 4, .commits = 3, .first = 1500}); }
TEST_CASE("rows that do not fit in shared memory", "[apply]") {
  same_rows<kv::kivi<2, 64, 0>, 1>({.leaves = 0.5, .dim = 192, .commits = 4});
  same_rows<kv::dense<float>, 1>({.leaves = 0.5, .dim = 280, .commits = 4});
}

}  // namespace apply_test
