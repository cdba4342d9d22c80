// SPDX-License-Identifier: Apache-2.0
#include <tersekv/backend/cuda/fold.cuh>

#include "catch.hpp"
#include "commit_scene.hpp"
#include "simt/schedules.hpp"

#include <tersekv/adapt/log_mass.hpp>
#include <tersekv/budget/uniform.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/merge/d2o.cuh>
#include <tersekv/merge/weighted_kv.cuh>

namespace kv = tersekv;
using namespace tersekv::detail;
using std::size_t;
using test::at;

namespace fold_test {

/// Kernels and CPU fold the same leavers of the same commits.
template <class Merge>
void same_folds(const Merge& merge, const kv::h2o& evict, const test::scene_options& o, unsigned seed,
                bool rewrites_packed) {
  CAPTURE(Merge::name, seed, rewrites_packed, o.key_dim);
  using Evict = kv::h2o;
  constexpr bool biased = requires { Merge::carries_mass; };
  constexpr int columns = Evict::columns + Merge::columns;
  test::commit_scene<Evict, Merge> scene(o, seed);
  const commit_shape& shape = scene.shape;
  std::vector<typename test::commit_scene<Evict, Merge>::list> lists;
  for (int q = 0; q < o.sequences; ++q)
    for (int s = 0; s < o.slots; ++s)
      for (int h = 0; h < o.kv_heads; ++h) lists.push_back(scene.list_of(q, s, h, evict, merge));

  fold_arguments<Merge> a{};
  const auto carve = [&](void* memory) {
    carver from(memory);
    a.lists = carve_lists<Evict>(from, shape, columns);
    carve_fold(from, a);
    return from.bytes();
  };
  a.batch = scene.batch(), a.shape = shape, a.merge = merge;
  a.first_column = Evict::columns, a.columns = columns, a.rewrites_packed = rewrites_packed;
  test::poisoned_memory workspace(carve(nullptr));
  carve(workspace.get());
  auto keys = test::normal_numbers(at(shape.heads() * shape.most_rows * o.key_dim), seed);
  auto values = test::normal_numbers(at(shape.heads() * shape.most_rows * o.value_dim), seed + 1);
  for (size_t i = 0; i < keys.size(); ++i)
    if (i / at(o.key_dim) % 11 == 3) keys[i] = 0;
  auto folded_keys = keys, folded_values = values;
  a.keys = folded_keys.data(), a.values = folded_values.data();
  std::vector<typename Merge::head_state> states(at(shape.heads()));
  if constexpr (requires { states[0].tau; })
    for (size_t i = 0; i < states.size(); i += 2) states[i] = {0.3f, true};
  const auto states_before = states;
  std::vector<typename Merge::head_state*> of_sequence;
  for (int q = 0; q < o.sequences; ++q) of_sequence.push_back(states.data() + q * o.slots * o.kv_heads);
  a.states = of_sequence.data();

  observe_rows(evict, merge, a.batch, shape, a.lists, nullptr);
  const list_arguments<Evict> listed{{a.batch, shape, a.lists}, evict, columns};
  list_rows(listed, nullptr);
  select_rows(listed, kv::uniform{}, nullptr);
  fold_rows(a, nullptr);

  int folded = 0;
  for (int i = 0; i < shape.heads(); ++i) {
    CAPTURE(i);
    const auto& list = lists[at(i)];
    const kv::detail::device_head& head = scene.head(i);
    const size_t n = list.position.size(), base = at(i) * at(shape.most_rows);
    const int q = i / (o.slots * o.kv_heads), retained = shape.retained[i / o.kv_heads % o.slots];
    const int seen = scene.length(q) + o.accepted;
    std::vector<int> leave, stay;
    std::vector<unsigned char> writable(n, 1), changed(n, 0);
    std::vector<float> state, bias(biased ? n : 0, 0.0f);
    for (size_t r = 0; r < n; ++r) {
      const int source = list.source[r];
      if (a.lists.keep[base + r])
        stay.push_back(static_cast<int>(r));
      else if (retained == 0 || list.position[r] > seen - retained)
        leave.push_back(static_cast<int>(r));
      if (source >= head.sinks && source < head.sinks + head.packed) writable[r] = rewrites_packed;
      if (biased && source < head.rows()) bias[r] = head.bias[source];
      for (int c = Evict::columns; c < columns; ++c) state.push_back(list.state[r * at(columns) + at(c)]);
    }
    auto want_keys = std::vector<float>(keys.begin() + static_cast<std::ptrdiff_t>(base * at(o.key_dim)),
                                        keys.begin() + static_cast<std::ptrdiff_t>((base + n) * at(o.key_dim)));
    auto want_values = std::vector<float>(values.begin() + static_cast<std::ptrdiff_t>(base * at(o.value_dim)),
                                          values.begin() + static_cast<std::ptrdiff_t>((base + n) * at(o.value_dim)));
    kv::fold_head f;
    f.keys = want_keys, f.values = want_values, f.position = list.position, f.leave = leave, f.stay = stay;
    f.guard = {a.lists.guard + base, n}, f.writable = writable, f.changed = changed, f.state = state, f.bias = bias;
    f.key_dim = o.key_dim, f.value_dim = o.value_dim, f.seen = seen;
    auto remembered = states_before[at(i)];
    if (!leave.empty() && !stay.empty()) merge.fold(f, remembered);

    CHECK(std::vector<unsigned char>(a.changed + base, a.changed + base + n) == changed);
    folded += static_cast<int>(std::count(changed.begin(), changed.end(), 1));
    const auto same = [](const float* got, const std::vector<float>& want) {
      for (size_t k = 0; k < want.size(); ++k)
        if (!(std::abs(got[k] - want[k]) <= 1e-5f * (1 + std::abs(want[k])))) return false;
      return true;
    };
    CHECK(same(a.keys + base * at(o.key_dim), want_keys));
    CHECK(same(a.values + base * at(o.value_dim), want_values));
    if (biased) CHECK(same(a.bias + base, bias));
    if constexpr (requires { remembered.tau; }) {
      CHECK(states[at(i)].begun == remembered.begun);
      CHECK(states[at(i)].tau == Approx(remembered.tau).margin(1e-6));
    }
    for (size_t r = 0; r < n && Merge::columns > 0; ++r) {
      const int j = list.source[r] - head.rows();
      const float* got = (j < 0 ? head.state + list.source[r] * columns
                                : a.lists.staged_state + (i * shape.most_accepted + j) * columns) +
                         Evict::columns;
      CHECK(same(got, {state.begin() + static_cast<std::ptrdiff_t>(r) * Merge::columns,
                       state.begin() + static_cast<std::ptrdiff_t>(r + 1) * Merge::columns}));
    }
  }
  CHECK(folded > 0);
}

template <class Merge>
void in_many_scenes(const Merge& merge, unsigned seed) {
  test::scene_options o;
  for (const bool rewrites_packed : {true, false}) {
    o = {};
    o.biased = requires { Merge::carries_mass; };
    o.sequences = 1, o.kv_heads = 2;  // ThreadSanitizer knows 8128 threads
    o.key_dim = 6, o.value_dim = 5;
    same_folds(merge, {.heavy = 5, .recent = 4}, o, ++seed, rewrites_packed);
    o.key_dim = 1;  // all cosines are -1, 0 or 1
    same_folds(merge, {.heavy = 5, .recent = 4}, o, ++seed, rewrites_packed);
    o.key_dim = 40, o.value_dim = 33, o.ranges = true, o.retained = 60;
    same_folds(merge, {.heavy = 9, .recent = 0}, o, ++seed, rewrites_packed);
  }
}

TEST_CASE("kernels fold the rows that the CPU folds, into the same rows", "[cuda]") {
  for (const auto& options : simt::schedules) {
    const simt::with settings(options);
    const unsigned seed = 10 * static_cast<unsigned>(options.seed) + static_cast<unsigned>(options.schedule);
    in_many_scenes(kv::d2o{}, seed);
    in_many_scenes(kv::weighted_kv{}, seed);
    in_many_scenes(kv::log_mass<kv::d2o>{}, seed);
  }
  in_many_scenes(kv::d2o{.rule = kv::d2o_rule::released_code, .into_recent = false, .guarded = true}, 7);
}

TEST_CASE("folding goes through tiles of many leavers and many survivors", "[cuda]") {
  test::scene_options o;
  o.sequences = 1, o.slots = 1, o.kv_heads = 1, o.layers = 1, o.most_committed = 200, o.some = false;
  same_folds(kv::d2o{}, {.heavy = 60, .recent = 20}, o, 3, true);
  same_folds(kv::weighted_kv{}, {.heavy = 60, .recent = 20}, o, 3, true);
}

}  // namespace fold_test
