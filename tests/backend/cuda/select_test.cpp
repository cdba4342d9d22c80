// SPDX-License-Identifier: Apache-2.0
#include <tersekv/backend/cuda/select.cuh>

#include "catch.hpp"
#include "commit_scene.hpp"

#include <tersekv/budget/ada.cuh>
#include <tersekv/budget/pyramid.hpp>
#include <tersekv/budget/uniform.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/keep_all.hpp>
#include <tersekv/evict/keydiff.cuh>
#include <tersekv/evict/knorm.hpp>
#include <tersekv/evict/observed_attention.hpp>
#include <tersekv/evict/random.hpp>
#include <tersekv/evict/snapkv.hpp>
#include <tersekv/evict/streaming_llm.hpp>
#include <tersekv/evict/tova.hpp>
#include <tersekv/merge/drop.hpp>
#include <tersekv/merge/weighted_kv.hpp>

using namespace tersekv::detail;
namespace kv = tersekv;
using test::at;

namespace select_test {

/// Kernels and CPU decide about the same commits.
template <class Evict, class Budget, class Merge = kv::drop>
void same_answers(const Evict& evict, const Budget& budget, const test::scene_options& o, unsigned seed,
                  const Merge& merge = {}) {
  CAPTURE(Evict::name, Budget::name, seed, o.special, o.most_committed);
  test::commit_scene<Evict, Merge> scene(o, seed);
  using scene_type = decltype(scene);
  constexpr int columns = scene_type::columns;
  std::vector<typename scene_type::list> lists;
  for (int q = 0; q < o.sequences; ++q)
    for (int s = 0; s < o.slots; ++s)
      for (int h = 0; h < o.kv_heads; ++h) lists.push_back(scene.list_of(q, s, h, evict, merge));
  std::vector<std::vector<float>> keys;
  for (const auto& list : lists)
    keys.push_back(
        test::normal_numbers(list.position.size() * at(o.key_dim), seed + static_cast<unsigned>(keys.size())));

  carver size(nullptr);
  carve_lists<Evict>(size, scene.shape, columns);
  test::poisoned_memory workspace(size.bytes());
  carver memory(workspace.get());
  list_arguments<Evict> a{
      {scene.batch(), scene.shape, carve_lists<Evict>(memory, scene.shape, columns)}, evict, columns};
  std::vector<float> all_keys(at(scene.shape.heads() * scene.shape.most_rows * o.key_dim));
  for (size_t i = 0; i < keys.size(); ++i)
    std::copy(keys[i].begin(), keys[i].end(), all_keys.begin() + a.first(static_cast<int>(i)) * o.key_dim);
  a.lists.keys = all_keys.data();
  observe_rows(evict, merge, scene.batch(), scene.shape, a.lists, nullptr);
  list_rows(a, nullptr);
  select_rows(a, budget, nullptr);

  size_t i = 0;
  for (int q = 0; q < o.sequences; ++q)
    for (int s = 0; s < o.slots; ++s) {
      std::vector<kv::trim_head> heads(at(o.kv_heads));
      const size_t first = i;
      for (kv::trim_head& head : heads) {
        const auto& list = lists[i];
        head.position = list.position, head.last_attention = list.last, head.window_attention = list.window;
        head.keys = keys[i++];
        for (size_t r = 0; r < list.position.size(); ++r)
          for (int c = 0; c < Evict::columns; ++c) head.state.push_back(list.state[r * at(columns) + at(c)]);
      }
      kv::trim_context context;
      context.slot = s, context.slots = o.slots, context.seen = scene.length(q) + o.accepted;
      context.retained = scene.shape.retained[s], context.key_dim = o.key_dim, context.window_queries = 4;
      context.ranges = scene.ranges();
      kv::decide(evict, budget, context, std::span<kv::trim_head>(heads), o.due);
      for (int h = 0; h < o.kv_heads; ++h) {
        const int head = static_cast<int>(first) + h, n = heads[at(h)].rows();
        CAPTURE(q, s, h);
        REQUIRE(a.lists.rows[head] == n);
        const auto row = a.first(head);
        CHECK(std::equal(lists[first + at(h)].source.begin(), lists[first + at(h)].source.end(), a.lists.source + row));
        CHECK(std::vector<unsigned char>(a.lists.keep + row, a.lists.keep + row + n) == heads[at(h)].keep);
        CHECK(std::equal(heads[at(h)].guard.begin(), heads[at(h)].guard.end(), a.lists.guard + row));
        CHECK(a.lists.kept[head] == std::count(heads[at(h)].keep.begin(), heads[at(h)].keep.end(), 1));
      }
    }
}

template <class Evict, class Budget>
void in_many_scenes(const Evict& evict, const Budget& budget, unsigned seed, bool heads_agree = false) {
  test::scene_options o;
  o.heads_agree = heads_agree;
  for (unsigned n = 0; n < 2; ++n) {
    o.special = n == 1;
    same_answers(evict, budget, o, ++seed);
    o.ranges = true, o.retained = 50;
    same_answers(evict, budget, o, ++seed);
    o.ranges = false, o.retained = 0;
  }
}

TEST_CASE("kernels let the same rows go as the CPU, whatever the policy", "[cuda]") {
  for (const auto schedule : {simt::order::fifo, simt::order::lifo, simt::order::random}) {
    const simt::with settings({.schedule = schedule});
    const unsigned seed = 100 * (1 + static_cast<unsigned>(schedule));
    in_many_scenes(kv::h2o{.heavy = 6, .recent = 4}, kv::uniform{}, seed);
    in_many_scenes(kv::streaming_llm{.sinks = 4, .recent = 9}, kv::uniform{}, seed);
    in_many_scenes(kv::tova{.rows = 9}, kv::uniform{}, seed, true);
    in_many_scenes(kv::snapkv{.rows = 12, .window = 5, .kernel = 3}, kv::uniform{}, seed);
  }
  in_many_scenes(kv::snapkv{.rows = 12, .window = 2, .kernel = 7, .pool = kv::snapkv::pooling::max}, kv::uniform{}, 1);
  in_many_scenes(kv::knorm{.rows = 11, .recent = 3}, kv::uniform{}, 2);
  in_many_scenes(kv::observed_attention{.rows = 11, .recent = 3}, kv::uniform{}, 3);
  in_many_scenes(kv::random_eviction{.rows = 11, .recent = 3, .seed = 5}, kv::uniform{}, 4);
  in_many_scenes(kv::keydiff{.rows = 11, .recent = 3}, kv::uniform{}, 5);
  in_many_scenes(kv::full{}, kv::uniform{}, 7);
}

TEST_CASE("kernels spread rows over slots and heads as the CPU does", "[cuda]") {
  for (const auto schedule : {simt::order::fifo, simt::order::random}) {
    const simt::with settings({.schedule = schedule});
    const unsigned seed = 500 + static_cast<unsigned>(schedule);
    in_many_scenes(kv::snapkv{.rows = 12, .window = 5, .kernel = 3}, kv::ada{}, seed);
    in_many_scenes(kv::h2o{.heavy = 6, .recent = 0}, kv::ada{.floor = 0}, seed);
    in_many_scenes(kv::h2o{.heavy = 6, .recent = 0}, kv::ada{.floor = 1}, seed);
    in_many_scenes(kv::h2o{.heavy = 6, .recent = 30}, kv::ada{.floor = 0.5f}, seed);
    in_many_scenes(kv::snapkv{.rows = 12, .window = 5, .kernel = 3}, kv::pyramid{}, seed);
    in_many_scenes(kv::h2o{.heavy = 12, .recent = 0}, kv::pyramid{.paper = true}, seed);
  }
}

TEST_CASE("kernels decide at the edges as the CPU does", "[cuda]") {
  test::scene_options o;
  for (const int rows : {0, 1, 9, 10, 11, 12}) {  // around the budget
    o.most_committed = rows, o.some = false, o.heads_agree = true;
    same_answers(kv::h2o{.heavy = 6, .recent = 4}, kv::uniform{}, o, 1);
    same_answers(kv::h2o{.heavy = 6, .recent = 4, .when = kv::overflow(2)}, kv::uniform{}, o, 2);
    same_answers(kv::h2o{.heavy = 6, .recent = 4, .when = kv::overflow(2)}, kv::ada{}, o, 3);
    same_answers(kv::h2o{.heavy = 0, .recent = 1}, kv::uniform{}, o, 4);
    same_answers(kv::tova{.rows = 1}, kv::uniform{}, o, 5);
  }
  o = {};
  same_answers(kv::h2o{.heavy = 0, .recent = 200}, kv::uniform{}, o, 6);  // all rows are protected
  o.ranges = true;
  same_answers(kv::h2o{.heavy = 0, .recent = 1}, kv::uniform{}, o, 7);  // above the budget by the caller's wish
  o.retained = 2;                                                       // the step's own first row is not seen any more
  same_answers(kv::h2o{.heavy = 6, .recent = 4}, kv::uniform{}, o, 8);
  o.due = false;
  same_answers(kv::h2o{.heavy = 6, .recent = 4}, kv::uniform{}, o, 9);
  same_answers(kv::full{}, kv::uniform{}, o, 10);
  o = {};
  o.accepted = 0, o.observed = 0, o.heads_agree = true;
  same_answers(kv::h2o{.heavy = 6, .recent = 4}, kv::uniform{}, o, 11);
  same_answers(kv::tova{.rows = 9}, kv::uniform{}, o, 12);
  o = {};
  o.sequences = 1, o.slots = 1, o.kv_heads = 1, o.layers = 1, o.most_committed = 1300, o.some = false;
  same_answers(kv::h2o{.heavy = 300, .recent = 100}, kv::uniform{}, o, 13);
  o.special = true;
  same_answers(kv::h2o{.heavy = 300, .recent = 100}, kv::ada{}, o, 14);
}

TEST_CASE("columns of two policies are kept side by side", "[cuda]") {
  const kv::observed_attention evict{.rows = 11, .recent = 3};
  same_answers(evict, kv::uniform{}, {}, 1, kv::weighted_kv{});
  test::scene_options o;
  test::commit_scene<kv::observed_attention, kv::weighted_kv> scene(o, 3);
  const auto before = scene.list_of(1, 1, 2, evict, kv::weighted_kv{});
  carver size(nullptr);
  carve_lists<kv::observed_attention>(size, scene.shape, 4);
  test::poisoned_memory workspace(size.bytes());
  carver memory(workspace.get());
  const row_lists lists = carve_lists<kv::observed_attention>(memory, scene.shape, 4);
  observe_rows(evict, kv::weighted_kv{}, scene.batch(), scene.shape, lists, nullptr);
  const int i = scene.shape.heads() - 1;
  for (size_t r = 0; r < before.source.size(); ++r) {
    const int j = before.source[r] - scene.head(i).rows();
    const float* state = j < 0 ? scene.head(i).state + before.source[r] * 4
                               : lists.staged_state + (i * scene.shape.most_accepted + j) * 4;
    CHECK(std::equal(state, state + 4, before.state.begin() + static_cast<std::ptrdiff_t>(4 * r)));
  }
}

}  // namespace select_test
