// SPDX-License-Identifier: Apache-2.0
// Rows of a head that come and go singly: what stays is bit for bit what came, and few other rows move.
#include "support.hpp"

#include <tersekv/tersekv.hpp>

#include <algorithm>
#include <random>

#include "catch.hpp"
#include "index.hpp"

namespace kv = tersekv;
using test::at;

namespace head_rows_test {

TEST_CASE("the shortest run is the first of the shortest", "[rows]") {
  std::mt19937 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::uniform_int_distribution<int> pages_of(0, 12), dead_of(0, trial % 2 ? 31 : 9);
    std::vector<int> dead(at(pages_of(random)));
    for (int& d : dead) d = dead_of(random);
    const int pages = static_cast<int>(dead.size());
    kv::detail::page_run want;
    for (int length = 1; length <= pages && want.pages() == 0; ++length)
      for (int first = 0; first + length <= pages && want.pages() == 0; ++first) {
        int sum = 0;
        for (int p = first; p < first + length; ++p) sum += dead[at(p)];
        if (sum >= 32) want = {first, first + length - 1, sum};
      }
    const auto got = kv::detail::shortest_run(pages, 32, [&](int p) { return dead[at(p)]; });
    REQUIRE(got.pages() == want.pages());
    if (want.pages() == 0) continue;
    REQUIRE(got.first == want.first);
    REQUIRE(got.dead == want.dead);
  }
}

/// A head and what it ought to hold.
template <class Codec, class Read>
struct shadowed_head {
  using format_type = kv::page_format<Codec, Read>;
  static constexpr int dim = 32;
  struct row {
    int position;
    std::vector<float> key, value;  // as they are read back
  };

  void enter() {
    const auto k = test::normal(at(dim), ++seed), v = test::normal(at(dim), ++seed);
    head.reserve(format, 1, 0, 0, head.pages_to_pack(1));
    memory.reserve(at(head.pages_to_pack(1)));
    const auto state = static_cast<float>(10 * seed);
    head.push_columns(static_cast<int>(seed), &state);
    head.pack(memory, format, k.data(), v.data(), 1);
    row r{static_cast<int>(seed), k, v};
    std::vector<std::byte> page(format.bytes());
    format.encode(page.data(), 0, 1, k.data(), v.data());
    format.decode_keys(page.data(), 0, 1, r.key.data());
    format.decode_values(page.data(), 0, 1, r.value.data());
    rows.push_back(r);
  }
  /// The n-th live rows leave together.
  void leave(std::vector<int> which) {
    std::vector<int> live;
    for (int i = 0; i < head.slots(); ++i)
      if (head.position()[at(i)] >= 0) live.push_back(i);
    std::vector<int> indices;
    std::sort(which.begin(), which.end());
    for (const int n : which) indices.push_back(live[at(n)]);
    for (std::size_t n = which.size(); n-- > 0;) rows.erase(rows.begin() + which[n]);
    head.remove(format, indices);
    head.compact(memory, format, static_cast<int>(which.size()));
  }
  void check() const {
    REQUIRE(head.live() == static_cast<int>(rows.size()));
    std::vector<float> k(at(dim)), v(at(dim));
    std::size_t n = 0;
    int wrong = 0;
    for (int i = 0; i < head.slots(); ++i) {
      if (head.position()[at(i)] < 0) continue;
      const row& want = rows[n++];
      format.decode_keys(head.page(i / format_type::rows), i % format_type::rows, 1, k.data());
      format.decode_values(head.page(i / format_type::rows), i % format_type::rows, 1, v.data());
      wrong += head.position()[at(i)] != want.position || k != want.key || v != want.value ||
               head.state(i)[0] != static_cast<float>(10 * want.position);
    }
    REQUIRE(wrong == 0);
    REQUIRE(head.slots() - head.live() < format_type::rows);  // a page of dead rows is none
    REQUIRE(head.pages() == (head.slots() + format_type::rows - 1) / format_type::rows);
  }

  format_type format{Codec{}, Read{}, dim, dim};
  kv::pool memory{std::pmr::get_default_resource(), format.bytes(), 0};
  kv::head_rows<format_type, 1, false> head{memory};
  std::vector<row> rows;
  unsigned seed = 0;
};

template <class Codec, class Read>
void rows_come_and_go() {
  std::mt19937 random(7);
  for (int kind = 0; kind < 4; ++kind) {
    CAPTURE(kind);
    shadowed_head<Codec, Read> one;
    for (int i = 0; i < 256; ++i) one.enter();
    for (int i = 0; i < 300; ++i) {
      one.enter();
      const int live = one.head.live();
      const auto any = [&](int first, int last) { return std::uniform_int_distribution<int>(first, last - 1)(random); };
      if (kind == 0) one.leave({4});                     // sinks stay, the oldest behind them leaves
      if (kind == 1) one.leave({any(0, live)});          // anywhere
      if (kind == 2) one.leave({any(live - 50, live)});  // near the end, the last page included
      if (kind == 3 && i % 5 == 4) one.leave({0, 1, any(2, 80), any(80, 160), any(160, live)});
      one.check();
    }
    std::vector<int> most;
    for (int n = 0; n < 150; ++n) most.push_back(n + n / 3);
    one.leave(most);
    one.check();
    REQUIRE(one.head.slots() == one.head.live());  // after many have left nothing dead stays
  }
}

TEST_CASE("rows that stay are bit for bit what came, whichever leave", "[rows]") {
  rows_come_and_go<kv::int4<>, kv::read_all>();
  rows_come_and_go<kv::affine<3, 16>, kv::quest>();
  rows_come_and_go<kv::q8_0, kv::read_all>();
  rows_come_and_go<kv::dense<kv::half>, kv::quest>();
}

TEST_CASE("a row that leaves moves few others: pages far from it stay shared", "[rows]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 32};
  test::stream s(shape, 1200, 9);
  test::counting_resource memory;
  kv::cpu backend;
  backend.memory = &memory;
  auto cache = kv::make_cache(shape, backend, kv::streaming_llm{.sinks = 4, .recent = 508}, kv::int4<>{});
  auto chat = cache.open();
  test::feed(cache, chat, s, 1000);
  auto fork = chat.fork();
  const std::size_t before = memory.held, page = cache.page_bytes();
  for (int i = 0; i < 64; ++i) test::feed(cache, fork, s, 1);
  const std::size_t pages = (memory.held - before) / page;
  CAPTURE(pages);
  CHECK(pages >= 2 * 2);  // of 16 per head: two began,
  CHECK(pages <= 2 * 4);  // that of the sinks was copied, and columns grew
}

}  // namespace head_rows_test
