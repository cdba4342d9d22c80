// SPDX-License-Identifier: Apache-2.0
#include <tersekv/adapt/cache_positions.hpp>

#include <tersekv/evict/snapkv.hpp>
#include <tersekv/evict/streaming_llm.hpp>
#include <tersekv/evict/tova.hpp>
#include <tersekv/rotary/rope.hpp>

#include "laws/evictor.hpp"

namespace kv = tersekv;

using streaming = kv::cache_positions<kv::streaming_llm>;
static_assert(streaming::name == "streaming_llm@cache");
static_assert(streaming::in_order && kv::cache_positions<kv::tova>::per_layer);
static_assert(kv::detail::needs<kv::fact::rotation, streaming>);
static_assert(kv::detail::needs<kv::fact::query_window, kv::cache_positions<kv::snapkv>>);
static_assert(kv::detail::provides<kv::fact::comparable_scores, kv::cache_positions<kv::snapkv>>);
static_assert(!kv::composes<kv::cpu, streaming> && kv::composes<kv::cpu, streaming, kv::rope>);

namespace cache_positions_test {

const kv::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};

void turn(const kv::rope& rope, float* x, int dim, int by) {
  std::vector<float> turns(static_cast<std::size_t>(dim));
  rope.angles(by, dim, turns.data());
  rope.turn(x, dim, turns.data());
}

/// The stream as an engine would append it: keys and queries of token t turned by t + first.
test::stream rotated(test::stream s, const kv::rope& rope, int first = 0) {
  for (int t = 0; t < s.tokens; ++t) {
    for (int h = 0; h < 2; ++h) turn(rope, s.k[0].data() + (t * 2 + h) * 8, 8, t + first);
    for (int h = 0; h < 4; ++h) turn(rope, s.q[0].data() + (t * 4 + h) * 8, 8, t + first);
  }
  return s;
}

/// Attention of token t over rows of the unrotated stream, each turned by its index, the query behind them.
std::vector<double> by_index(const test::stream& s, const kv::rope& rope, int t, int query_head,
                             const std::vector<int>& rows) {
  std::vector<std::vector<float>> keys;
  std::vector<const float*> k, v;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float* from = s.key(0, rows[i], query_head / 2);
    keys.emplace_back(from, from + 8);
    turn(rope, keys.back().data(), 8, static_cast<int>(i));
    v.push_back(s.value(0, rows[i], query_head / 2));
  }
  for (const auto& key : keys) k.push_back(key.data());
  std::vector<float> q(s.query(0, t, query_head), s.query(0, t, query_head) + 8);
  turn(rope, q.data(), 8, static_cast<int>(rows.size()) - 1);
  return test::attention(q.data(), k, v, 8, 8, static_cast<double>(s.shape.scale));
}

TEST_CASE("an evictor with cache positions obeys the laws of eviction", "[adapt]") {
  laws::evictor(streaming{{.sinks = 3, .recent = 9}}, {}, kv::rope{});
}

TEST_CASE("turning a rotated key further is rotating it further", "[adapt]") {
  for (const bool interleaved : {true, false}) {
    const kv::rope rope{.base = 10000, .interleaved = interleaved};
    for (const int p : {0, 7, 1000})
      for (const int by : {-7, 3, 250}) {
        auto x = test::normal(8, 5), y = x;
        turn(rope, x.data(), 8, p), turn(rope, x.data(), 8, by), turn(rope, y.data(), 8, p + by);
        CHECK(test::relative_error(x.data(), y.data(), 8) < 1e-6);
      }
  }
}

TEST_CASE("attention with cache positions is attention with keys rotated by their index", "[adapt]") {
  for (const bool interleaved : {true, false}) {
    const kv::rope rope{.base = 100, .interleaved = interleaved};
    test::stream plain(shape, 90);
    auto s = rotated(plain, rope);
    auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, rope, streaming{{.sinks = 2, .recent = 7}});
    auto chat = cache.open();
    test::feed(cache, chat, s, 30);
    for (int t = 30; t < 90; ++t) {
      auto rows = chat.positions(0, 0);
      CHECK(rows.size() == 9);
      rows.push_back(t);
      const auto out = test::feed(cache, chat, s, 1);
      for (int h = 0; h < 4; ++h)
        CHECK(test::relative_error(out[0].data() + h * 8, by_index(plain, rope, t, h, rows).data(), 8) < 1e-5);
    }
    auto rows = chat.positions(0, 0);  // several tokens at once stand one behind the other
    test::stream more(shape, 93, 7);
    for (int t = 0; t < 90; ++t) {
      std::copy_n(plain.key(0, t, 0), 16, more.k[0].data() + t * 16);
      std::copy_n(plain.value(0, t, 0), 16, more.v[0].data() + t * 16);
    }
    auto turned = rotated(more, rope);
    const auto out = test::feed(cache, chat, turned, 3);
    for (int t = 90; t < 93; ++t) {
      rows.push_back(t);
      for (int h = 0; h < 4; ++h)
        CHECK(test::relative_error(out[0].data() + ((t - 90) * 4 + h) * 8, by_index(more, rope, t, h, rows).data(), 8) <
              1e-5);
    }
  }
}

TEST_CASE("once the cache is full, how much text went before does not matter", "[adapt]") {
  const kv::rope rope;
  test::stream plain(shape, 40);
  std::vector<std::vector<float>> last;
  for (const int before : {0, 13, 500}) {  // tokens between the sinks and the last forty
    test::stream longer(shape, 4 + before + 36, 77);
    const auto place = [&](int to, int from) {
      std::copy_n(plain.key(0, from, 0), 16, longer.k[0].data() + to * 16);
      std::copy_n(plain.value(0, from, 0), 16, longer.v[0].data() + to * 16);
      std::copy_n(plain.query(0, from, 0), 32, longer.q[0].data() + to * 32);
    };
    for (int t = 0; t < 4; ++t) place(t, t);
    for (int t = 4; t < 40; ++t) place(before + t, t);
    auto s = rotated(longer, rope);
    auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, rope, streaming{{.sinks = 4, .recent = 20}});
    auto chat = cache.open();
    test::feed(cache, chat, s, 4 + before + 35);
    last.push_back(test::feed(cache, chat, s, 1)[0]);
  }
  for (const auto& out : last) CHECK(test::relative_error(out.data(), last[0].data(), 32) < 1e-4);
}

TEST_CASE("a constant added to every position changes nothing", "[adapt]") {
  const kv::rope rope;
  test::stream plain(shape, 60);
  auto s = rotated(plain, rope), far = rotated(plain, rope, 1000);
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::dense<float>{}, rope, streaming{{.sinks = 4, .recent = 16}});
  auto a = cache.open(), b = cache.open();
  test::feed(cache, a, s, 40), test::feed(cache, b, far, 40);
  for (int t = 40; t < 60; ++t)
    CHECK(test::relative_error(test::feed(cache, a, s, 1)[0].data(), test::feed(cache, b, far, 1)[0].data(), 32) <
          1e-4);
}

}  // namespace cache_positions_test
