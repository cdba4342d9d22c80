// SPDX-License-Identifier: Apache-2.0
// Decoding on several threads gives the same bits, whatever is read; cpu_test.cpp has the other ways to spread work.
#include <tersekv/backend/cpu.hpp>

#include <tersekv/adapt/sinks.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/read/quest.hpp>

#include "support.hpp"

#include "catch.hpp"

namespace kv = tersekv;

namespace threads_test {

/// Two tokens, decoded one by one after 6000: their outputs, and how many pieces of work there were at most.
template <class... Policies>
std::vector<std::vector<float>> decoded(test::stream s, int threads, int& pieces, const Policies&... policies) {
  std::atomic<int> most{0};
  auto cache = kv::make_cache(s.shape, test::on_threads(threads, &most), policies...);
  auto chat = cache.open();
  auto prompt = chat.step(6000);
  prompt.append(0, s.keys(0, 0, 6000), s.values(0, 0, 6000));
  prompt.commit();
  auto out = test::feed(cache, chat, s, 1);
  for (auto& layer : test::feed(cache, chat, s, 1)) out.push_back(std::move(layer));
  pieces = most;
  return out;
}

/// error: of the outputs against attention over all rows; 0 = some are not read.
template <class... Policies>
void gives_the_same_bits(int least_pieces, double error, const Policies&... policies) {
  const test::stream s({.layers = 1, .query_heads = 8, .kv_heads = 2, .head_dim = 64}, 6002, 7);
  int pieces = 0;
  const auto serial = decoded(s, 0, pieces, policies...);
  if (error > 0) CHECK(test::worst_error(s, {serial[0]}, 6000, 1) < error);
  for (const int threads : {1, 2, 5}) {
    CAPTURE(threads);
    CHECK(decoded(s, threads, pieces, policies...) == serial);
    CHECK(pieces >= least_pieces);
  }
}

TEST_CASE("keys in spans give the same bits on any number of threads", "[backend]") {
  gives_the_same_bits(2 * 4, 0.7, kv::kivi<2>{});
}
TEST_CASE("groups of four bits behind sinks give the same bits on any number of threads", "[backend]") {
  gives_the_same_bits(2 * 4, 0.2, kv::sinks<4, kv::int4<>>{});
}
TEST_CASE("pages are chosen and read with the same bits on any number of threads", "[backend]") {
  gives_the_same_bits(2 * 2, 0, kv::int4<>{}, kv::quest{.rows = 1024});
}

}  // namespace threads_test
