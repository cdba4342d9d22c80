// SPDX-License-Identifier: Apache-2.0
// How often a decoded token asks the device for something. Attention of a layer over 8k rows of int4 takes some 5 us,
// and a launch 2 to 3, so one launch more per layer is a third of the speed.
#include <deque>
#include <vector>

#include <tersekv/backend/cuda.cuh>

#include "../../support.hpp"

#include "../../catch.hpp"

#if defined(TERSEKV_SIMT)  // which counts
namespace kv = tersekv;

namespace launches_test {

/// Launches, memsets and copies of one token of 32 layers of so many sequences together, while nothing grows.
template <class... Ps>
int requests_of_a_token(int sequences, const kv::cuda& device, Ps... policies) {
  test::stream s({.layers = 32, .query_heads = 2, .kv_heads = 1, .head_dim = 64}, 60, 11);
  auto cache = kv::make_cache(s.shape, device, policies...);
  using step = typename decltype(cache)::step_type;
  std::deque<typename decltype(cache)::sequence_type> chats;
  std::vector<float> out(128 * static_cast<std::size_t>(sequences));
  std::vector<kv::view> o;
  for (int i = 0; i < sequences; ++i) {
    chats.push_back(cache.open());
    test::feed(cache, chats.back(), s, 26);
    o.emplace_back(out.data() + 128 * i, 1, 2, 64);
  }
  const auto token = [&] {
    const int before = simt::requested().all();
    std::deque<step> open;
    std::vector<step*> steps;
    for (auto& chat : chats) steps.push_back(&open.emplace_back(chat, 1, kv::step_options{}));
    for (int l = 0; l < 32; ++l) {
      const std::vector<kv::view> k(chats.size(), s.keys(0, 0, 1)), v(chats.size(), s.values(0, 0, 1)),
          q(chats.size(), s.queries(0, 0, 1));
      if (sequences == 1) {
        steps[0]->append(l, k[0], v[0]);
        steps[0]->attend(l, q[0], o[0]);
      } else {
        kv::append(steps, l, k, v);
        kv::attend(steps, l, q, o);
      }
    }
    sequences == 1 ? steps[0]->commit() : kv::commit(steps);
    return simt::requested().all() - before;
  };
  for (int i = 0; i < 2; ++i) token();
  int most = 0;
  for (int i = 0; i < 3; ++i) most = std::max(most, token());
  return most;
}

TEST_CASE("a decoded token asks the device for little beside attention", "[cuda]") {
  // 1 append and 2 of attention per layer; faults are read, rows applied
  CHECK(requests_of_a_token(1, {}) == 3 * 32 + 2);
  CHECK(requests_of_a_token(1, {}, kv::int4<>{}) == 3 * 32 + 2);
  CHECK(requests_of_a_token(1, {}, kv::snapkv{.rows = 24, .window = 8}, kv::int4<>{}) == 3 * 32 + 2);
  CHECK(requests_of_a_token(1, {.check_numbers = false}, kv::int4<>{}) == 3 * 32 + 1);
  // masses too; observe, list, select, recycle
  const kv::h2o h2o{.heavy = 16, .recent = 8};
  CHECK(requests_of_a_token(1, {}, h2o, kv::int4<>{}) == 4 * 32 + 2 + 4);
  kv::cuda small;
  small.scratch_bytes = 1000;  // then slots pass one by one, by observe, list, select and apply
  CHECK(requests_of_a_token(1, small, h2o, kv::int4<>{}) == 4 * 32 + 2 + 4 + 31 * 4);
}

TEST_CASE("a decoded token of many sequences asks for as much as one of one sequence", "[cuda]") {
  // also: the least fault of each step, and what apply has to know
  CHECK(requests_of_a_token(8, {}, kv::int4<>{}) == 3 * 32 + 4);
  CHECK(requests_of_a_token(2, {.check_numbers = false}, kv::int4<>{}) == 3 * 32 + 2);
  // masses too; what the other kernels of commit have to know, observe, list, select, recycle
  const kv::h2o h2o{.heavy = 16, .recent = 8};
  CHECK(requests_of_a_token(8, {}, h2o, kv::int4<>{}) == 4 * 32 + 4 + 5);
}
#endif

}  // namespace launches_test
