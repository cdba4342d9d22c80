// SPDX-License-Identifier: Apache-2.0
#include <tersekv/evict/observed_attention.hpp>

#include "golden/eviction_fixture.hpp"
#include "laws/evictor.hpp"

namespace kv = tersekv;

TEST_CASE("observed_attention obeys the laws of eviction", "[evict]") {
  laws::evictor(kv::observed_attention{.rows = 12, .recent = 3});
}

TEST_CASE("observed_attention keeps the rows of the published fixture", "[evict]") {
  CHECK(golden::kept(kv::observed_attention{.rows = 8, .recent = 0}) ==
        golden::sets{{0, 1, 2, 3, 4, 6, 9, 13}, {0, 1, 2, 3, 4, 6, 7, 9}});
}

TEST_CASE("observed_attention does not favour rows for having been seen more often", "[evict]") {
  // every query spreads its attention evenly: all rows are worth about 1 / rows, the first ones were seen by more
  std::vector<float> state;
  for (int j = 0; j < 4; ++j) state.insert(state.end(), {0.25f * static_cast<float>(4 - j), static_cast<float>(4 - j)});
  std::vector<float> score(4);
  const std::vector<int> position{0, 1, 2, 3};
  kv::scored_head head;
  head.position = position, head.state = state;
  kv::observed_attention{}.score(head, score);
  CHECK(score == std::vector<float>(4, 0.25f));
}

TEST_CASE("observed_attention refuses sizes that cannot work", "[evict]") {
  CHECK_THROWS_AS(kv::observed_attention{.rows = 0}.check(), kv::shape_error);
  CHECK_THROWS_AS((kv::observed_attention{.rows = 4, .recent = 5}.check()), kv::shape_error);
}
