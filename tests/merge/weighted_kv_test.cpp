// SPDX-License-Identifier: Apache-2.0
#include <tersekv/merge/weighted_kv.hpp>

#include "laws/merger.hpp"

namespace kv = tersekv;
using laws::fold_case;

static_assert(kv::merger<kv::weighted_kv>);

namespace weighted_kv_test {

/// state of row i: average attention a over `queries` queries
void attention(fold_case& c, int i, float a, float queries = 10) {
  c.state[static_cast<std::size_t>(2 * i)] = a * queries;
  c.state[static_cast<std::size_t>(2 * i + 1)] = queries;
}
float average(const fold_case& c, int i) {
  return c.state[static_cast<std::size_t>(2 * i)] / c.state[static_cast<std::size_t>(2 * i + 1)];
}

TEST_CASE("weighted_kv keeps the laws of mergers", "[merge]") { laws::merger(kv::weighted_kv{}); }

TEST_CASE("weighted_kv moves the value to the next row that stays, and no key", "[merge]") {
  fold_case c(6, 4, {1, 4}, 2);
  for (int i = 0; i < 6; ++i) attention(c, i, 0.1f * static_cast<float>(i + 1), 5.0f + static_cast<float>(i));
  const fold_case before = c;
  c.fold(kv::weighted_kv{});
  CHECK(c.keys == before.keys);
  CHECK((c.changed == std::vector<unsigned char>{0, 0, 1, 0, 0, 1}));
  for (std::size_t x = 0; x < 4; ++x) {
    CHECK(c.value(2)[x] == Approx((0.3 * before.value(2)[x] + 0.2 * before.value(1)[x]) / 0.5).margin(1e-6));
    CHECK(c.value(5)[x] == Approx((0.6 * before.value(5)[x] + 0.5 * before.value(4)[x]) / 1.1).margin(1e-6));
  }
}

TEST_CASE("a row that got no attention is simply evicted; equal attention gives the mean", "[merge]") {
  fold_case c(2, 4, {0}, 2);
  attention(c, 0, 0), attention(c, 1, 0.5f);
  const fold_case before = c;
  c.fold(kv::weighted_kv{});
  CHECK((c.values == before.values && c.changed == before.changed));
  attention(c, 0, 0.5f);
  c.fold(kv::weighted_kv{});
  for (std::size_t x = 0; x < 4; ++x)
    CHECK(c.value(1)[x] == Approx((before.value(0)[x] + before.value(1)[x]) / 2).margin(1e-6));
}

TEST_CASE("values of folded rows stay between those they came from", "[merge]") {
  fold_case c(30, 4, laws::every_third(30), 2);
  for (int i = 0; i < 30; ++i) attention(c, i, 0.01f * static_cast<float>(i * 7 % 11));
  const fold_case before = c;
  c.fold(kv::weighted_kv{});
  for (const int e : c.leave)
    for (std::size_t x = 0; x < 4; ++x) {
      const float a = before.value(e)[x], b = before.value(e + 1)[x], got = c.value(e + 1)[x];
      CHECK(got >= std::min(a, b) - 1e-6f);
      CHECK(got <= std::max(a, b) + 1e-6f);
    }
}

TEST_CASE("a row that took others in remembers their attention, at once and one by one", "[merge]") {
  fold_case together(4, 4, {0, 1, 2}, 2);
  for (int i = 0; i < 4; ++i)
    attention(together, i, 0.1f + 0.2f * static_cast<float>(i), 10.0f - static_cast<float>(i));
  const fold_case before = together;
  fold_case apart = together;
  together.fold(kv::weighted_kv{});
  for (const int e : {0, 1, 2}) {
    apart.leave = {e};
    apart.fold(kv::weighted_kv{});
  }
  for (std::size_t x = 0; x < 4; ++x) {
    const double want =
        (0.1 * before.value(0)[x] + 0.3 * before.value(1)[x] + 0.5 * before.value(2)[x] + 0.7 * before.value(3)[x]) /
        1.6;
    CHECK(together.value(3)[x] == Approx(want).margin(1e-6));
    CHECK(apart.value(3)[x] == Approx(want).margin(1e-6));
  }
  CHECK(average(together, 3) == Approx(1.6));
}

TEST_CASE("rows nobody could see yet, and rows behind all that stay, do no harm", "[merge]") {
  fold_case c(4, 4, {0, 3}, 2);
  for (int i = 0; i < 4; ++i) attention(c, i, 0.5f);
  attention(c, 1, 0, 0);  // no query yet
  c.state[2] = c.state[3] = 0;
  const fold_case before = c;
  c.fold(kv::weighted_kv{});
  for (std::size_t x = 0; x < 4; ++x) CHECK(c.value(1)[x] == Approx(before.value(0)[x]));  // all weight is with row 0
  CHECK(average(c, 1) == Approx(0.5));
  CHECK((c.value(2) == before.value(2)));  // row 3 had nowhere to go
}

TEST_CASE("weighted_kv skips rows that cannot be rewritten", "[merge]") {
  fold_case c(4, 4, {0}, 2);
  c.writable[1] = 0;
  c.fold(kv::weighted_kv{});
  CHECK((c.changed == std::vector<unsigned char>{0, 0, 1, 0}));
}

}  // namespace weighted_kv_test
