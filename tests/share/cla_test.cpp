// SPDX-License-Identifier: Apache-2.0
#include <tersekv/share/cla.hpp>

#include <tersekv/evict/h2o.hpp>

#include "laws/sharer.hpp"
#include "share/mass.hpp"

namespace kv = tersekv;

TEST_CASE("cla shares the rows of the lowest layer of each group", "[share]") {
  CHECK(kv::cla<2>{}.plan(8).text() == "0_0_2_2_4_4_6_6");
  CHECK(kv::cla<3>{}.plan(8).text() == "0_0_0_3_3_3_6_6");
  CHECK(kv::cla<1>{}.plan(3).text() == "0_1_2");
  CHECK(kv::cla<4>{}.plan(3).text() == "0_0_0");
  laws::sharer(kv::cla<3>{}, 8);
  laws::sharer_in_a_cache(kv::cla<3>{}, 8);
}

TEST_CASE("cla equals a cache of its own layers whose readers copy the writer's rows", "[share]") {
  const kv::model_shape shape{.layers = 5, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  test::stream shared(shape, 20), copied(shape, 20);
  for (int l = 0; l < 5; ++l) {
    copied.k[static_cast<std::size_t>(l)] = shared.k[static_cast<std::size_t>(l - l % 2)];
    copied.v[static_cast<std::size_t>(l)] = shared.v[static_cast<std::size_t>(l - l % 2)];
  }
  auto few = kv::make_cache(shape, kv::cpu{}, kv::cla<2>{});
  auto all = kv::make_cache(shape, kv::cpu{});
  auto a = few.open();
  auto b = all.open();
  for (const int n : {12, 1, 1, 5, 1}) CHECK((test::feed(few, a, shared, n) == test::feed(all, b, copied, n)));
  CHECK(few.bytes() * 5 == all.bytes() * 3);
}

TEST_CASE("h2o counts the attention of all layers that read a slot", "[share]") {
  const kv::model_shape shape{.layers = 4, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  const int tokens = 24, heavy = 4, recent = 3;
  auto cache = kv::make_cache(shape, kv::cpu{}, kv::cla<2>{}, kv::dense<float>{},
                              kv::h2o{.heavy = heavy, .recent = recent, .when = kv::every(tokens)});
  test::stream s(shape, tokens, 5, 1.5f);
  auto sequence = cache.open();
  for (int t = 0; t < tokens; ++t) test::feed(cache, sequence, s, 1);
  bool writer_alone_differs = false, reader_alone_differs = false;
  for (int slot = 0; slot < 2; ++slot)
    for (int h = 0; h < 2; ++h) {
      const auto expected = [&](std::vector<int> layers) {
        return test::heavy_hitters(s, cache.plan(), layers, h, heavy, recent);
      };
      CHECK(sequence.positions(slot, h) == expected({2 * slot, 2 * slot + 1}));
      writer_alone_differs = writer_alone_differs || sequence.positions(slot, h) != expected({2 * slot});
      reader_alone_differs = reader_alone_differs || sequence.positions(slot, h) != expected({2 * slot + 1});
    }
  CHECK(writer_alone_differs);  // so that the test can fail
  CHECK(reader_alone_differs);
}
