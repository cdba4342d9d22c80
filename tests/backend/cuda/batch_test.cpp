// SPDX-License-Identifier: Apache-2.0
// Steps that are appended, attended and committed as a batch: what each would be alone, on the device and on the CPU.
#include <deque>
#include <limits>
#include <memory_resource>
#include <new>
#include <string>
#include <vector>

#include <tersekv/backend/cuda.cuh>

#include "../../laws/batch.hpp"
#include "simt/sanitizers.hpp"

namespace kv = tersekv;

namespace batch_test {

constexpr int tokens = simt::address_sanitizer ? 2 : 8;

TEST_CASE("a batch on a device is its steps one after the other", "[cuda]") {
  laws::batch<kv::cuda, kv::cuda>(1e-5, tokens, kv::int4<>{});
}
TEST_CASE("sequences whose rows leave are committed beside others that only grow", "[cuda]") {
  laws::batch<kv::cuda, kv::cuda>(1e-5, tokens, kv::h2o{.heavy = 12, .recent = 8, .when = kv::every(3)}, kv::d2o{},
                                  kv::kivi<4, 8, 8>{});
}
TEST_CASE("windows of queries of some sequences of a batch", "[cuda]") {
  laws::batch<kv::cuda, kv::cuda>(1e-5, tokens, kv::snapkv{.rows = 24, .window = 8, .when = kv::every_chunk},
                                  kv::int8<>{});
}
TEST_CASE("a batch on a device is the CPU's", "[cuda]") {
  laws::batch<kv::cuda, kv::cpu>(2e-2, tokens, kv::yoco{.window = 30}, kv::h2o{.heavy = 16, .recent = 8}, kv::int8<>{});
}

const kv::model_shape small{.layers = 2, .query_heads = 2, .kv_heads = 2, .head_dim = 16};

/// Grants `granted` allocations, and then none until it is told otherwise.
class refusing_resource : public std::pmr::memory_resource {
 public:
  int granted = -1;  // -1 = all
 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (granted == 0) throw std::bad_alloc();
    if (granted > 0) --granted;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

template <class Sequence>
std::vector<std::vector<int>> rows_of(const std::deque<Sequence>& all) {
  std::vector<std::vector<int>> rows;
  for (const Sequence& one : all)
    for (int l = 0; l < small.layers; ++l)
      for (int h = 0; h < small.kv_heads; ++h) rows.push_back(one.positions(l, h));
  return rows;
}

/// Two sequences and a fork of the first, whose commit is refused memory after 0, 1, ... allocations. Returns how often
/// it had to be tried again.
template <class... Ps>
int refuse_each(Ps... policies) {
  test::stream s(small, 500, 3);
  int thrown = 0;
  for (int granted = 0;; granted += simt::address_sanitizer ? 5 : 1) {
    CAPTURE(granted);
    refusing_resource memory;
    auto cache = kv::make_cache(small, kv::cuda{.memory = &memory}, policies...);
    auto free = kv::make_cache(small, kv::cuda{}, policies...);
    std::deque<typename decltype(cache)::sequence_type> chats, twins;
    const auto open = [&](auto& of, auto& all) {
      for (const int prompt : {40, 150}) all.push_back(of.open()), test::feed(of, all.back(), s, prompt);
      all.push_back(all[0].fork());
    };
    open(cache, chats), open(free, twins);
    const std::vector<laws::one_step> wanted{{200}, {1}, {130}};
    bool refused = false;
    {
      laws::steps_of steps(cache, chats, wanted, s), others(free, twins, wanted, s);
      for (int l = 0; l < small.layers; ++l) steps.layer(l, true), others.layer(l, false);
      const auto before = rows_of(chats);
      memory.granted = granted;
      try {
        steps.commit(true);
      } catch (const std::bad_alloc&) {
        refused = true;
        memory.granted = -1;
        REQUIRE(rows_of(chats) == before);
        steps.commit(true);
      }
      memory.granted = -1;
      others.commit(false);
    }
    REQUIRE(rows_of(chats) == rows_of(twins));
    for (std::size_t i = 0; i < chats.size(); ++i)
      REQUIRE(test::feed(cache, chats[i], s, 1) == test::feed(free, twins[i], s, 1));
    if (!refused) return thrown;
    ++thrown;
  }
}

TEST_CASE("a batch that is refused memory has changed no sequence and may be tried again", "[cuda]") {
  CHECK(refuse_each(kv::h2o{.heavy = 30, .recent = 20}, kv::int8<>{}) > (simt::address_sanitizer ? 0 : 4));
}

TEST_CASE("lists of a batch take bounded memory", "[cuda]") {
  test::stream s(small, 100, 3);
  const auto run = [&](std::size_t scratch, bool together) {
    auto cache =
        kv::make_cache(small, kv::cuda{.scratch_bytes = scratch}, kv::h2o{.heavy = 12, .recent = 8}, kv::d2o{});
    std::deque<decltype(cache)::sequence_type> chats;
    for (const int prompt : {30, 12, 1, 25, 18})
      chats.push_back(cache.open()), test::feed(cache, chats.back(), s, prompt);
    for (int i = 0; i < 6; ++i) {
      laws::steps_of steps(cache, chats, std::vector<laws::one_step>(5), s);
      for (int l = 0; l < small.layers; ++l) steps.layer(l, together);
      steps.commit(together);
    }
    return rows_of(chats);
  };
  const auto alone = run(128 << 20, false);
  CHECK(run(60000, true) == alone);
  if (simt::address_sanitizer) return;
  for (const std::size_t scratch : {1000, 120000, 128 << 20}) CHECK(run(scratch, true) == alone);
}

TEST_CASE("wrong batches are refused on a device as well", "[cuda]") {
  test::stream s(small, 60, 4);
  auto cache = kv::make_cache(small, kv::cuda{}, kv::int8<>{}), other = kv::make_cache(small, kv::cuda{}, kv::int8<>{});
  std::deque<decltype(cache)::sequence_type> chats, strangers;
  for (int i = 0; i < 3; ++i) chats.push_back(cache.open()), strangers.push_back(other.open());
  using step = decltype(cache)::step_type;
  const std::vector<laws::one_step> wanted(3);
  laws::steps_of steps(cache, chats, wanted, s), strange(other, strangers, wanted, s);
  const auto& all = steps.all();
  const std::vector<step*> mixed{all[0], strange.all()[0]}, twice{all[1], all[1]};
  const std::vector<kv::view> two(2, s.keys(0, 0, 1)), three(3, s.keys(0, 0, 1));
  CHECK_THROWS_AS(kv::append(all, 0, two, three), kv::shape_error);
  CHECK_THROWS_AS(kv::append(all, 0, three, std::vector<kv::view>{two[0], two[0], s.keys(0, 0, 2)}), kv::shape_error);
  CHECK_THROWS_AS(kv::append(mixed, 0, two, two), kv::usage_error);
  CHECK_THROWS_AS(kv::append(twice, 0, two, two), kv::usage_error);
  for (int l = 0; l < 2; ++l) {
    CHECK_THROWS_AS(kv::commit(all), kv::usage_error);  // rows are missing
    steps.layer(l, true), strange.layer(l, true);
  }
  CHECK_THROWS_AS(kv::commit(mixed), kv::usage_error);
  CHECK_THROWS_AS(kv::commit(twice), kv::usage_error);
  CHECK_THROWS_AS(kv::commit(all, std::vector<int>{1, 1}), kv::shape_error);
  CHECK_THROWS_AS(kv::commit(all, std::vector<int>{1, 1, 2}), kv::shape_error);

  s.v[1][3 * 16 + 3] = std::numeric_limits<float>::infinity();
  std::vector<kv::view> k(3, s.keys(1, 0, 1)), v(3, s.values(1, 0, 1));
  v[1] = s.values(1, 1, 1);
  kv::append(all, 1, k, v);
  const auto said = [&] {
    try {
      kv::commit(all);
    } catch (const kv::value_error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(said() ==
        "tersekv::commit: step 1 of the batch: v of layer 1 has NaN or infinity in token 0 of the step, head 1");
  for (const auto& chat : chats) CHECK(chat.length() == 0);
  kv::append(all, 1, k, k);
  CHECK(said().empty());
  for (const auto& chat : chats) CHECK(chat.length() == 1);
  {  // steps whose memory met a fault before
    laws::steps_of again(cache, chats, wanted, s);
    again.layer(0, true), again.layer(1, true);
    CHECK_THROWS_AS(kv::commit(again.all()), kv::value_error);  // row 1 of the stream now
    CHECK_NOTHROW(kv::commit(again.all(), std::vector<int>{0, 0, 0}));
    laws::steps_of others(cache, chats, wanted, s);
    kv::append(others.all(), 0, k, k), kv::append(others.all(), 1, k, k);
    kv::commit(others.all());
  }
  for (const auto& chat : chats) CHECK(chat.length() == 2);
}

}  // namespace batch_test
