// SPDX-License-Identifier: Apache-2.0
// What every share policy promises, whatever its map.
#pragma once
#include <vector>

#include "catch.hpp"
#include "support.hpp"

namespace laws {

namespace kv = tersekv;

/// The plan is consistent: every layer reads a slot that some layer writes, and the schedule visits the layers in
/// order, repeating exactly the ranges in which a layer reads one above it.
template <kv::sharer P>
void sharer(const P& policy, int layers) {
  const kv::layer_plan plan = policy.plan(layers);
  INFO("map " << plan.text());
  REQUIRE(plan.layers() == layers);
  int owners = 0;
  for (int i = 0; i < layers; ++i) {
    owners += plan.owns(i);
    CHECK(plan.owns(plan.kv(i)));
    CHECK(plan.writer(plan.slot(i)) == plan.kv(i));
    CHECK(plan.owns(i) == (plan.written_slot(i) >= 0));
    if (plan.owns(i)) CHECK(plan.writer(plan.written_slot(i)) == i);
    CHECK(plan.reads_upward(i) == (plan.kv(i) > i));
  }
  CHECK(owners == plan.slots());
  for (int s = 1; s < plan.slots(); ++s) CHECK(plan.writer(s - 1) < plan.writer(s));
  CHECK(kv::layer_plan::parse(plan.text()).text() == plan.text());

  for (const int n : {1, 2, 1000}) {
    int next = 0;
    bool cyclic = false;
    for (const kv::layer_range r : plan.schedule(n)) {
      CHECK(r.first == next);
      CHECK(r.first <= r.last);
      bool upward = false;
      for (int i = r.first; i <= r.last; ++i) {
        upward = upward || plan.reads_upward(i);
        CHECK((!plan.reads_upward(i) || plan.kv(i) <= r.last));
      }
      if (upward) CHECK(plan.reads_upward(r.first));
      CHECK(r.passes == (upward ? std::min(n, plan.passes()) : 1));
      cyclic = cyclic || upward;
      next = r.last + 1;
    }
    CHECK(next == layers);
    CHECK(cyclic == plan.cyclic());
  }
}

/// In a cache only owners append, and every slot gets its row once.
template <kv::sharer P>
void sharer_in_a_cache(const P& policy, int layers) {
  const kv::model_shape shape{.layers = layers, .query_heads = 2, .kv_heads = 1, .head_dim = 4};
  auto cache = kv::make_cache(shape, kv::cpu{}, policy, kv::dense<float>{});
  test::stream s(shape, 3);
  auto sequence = cache.open();
  for (int t = 0; t < 3; ++t) {
    auto step = sequence.step(1);
    for (int l = 0; l < layers; ++l)
      if (!cache.owns(l)) CHECK_THROWS_AS(step.append(l, s.keys(l, t, 1), s.values(l, t, 1)), kv::usage_error);
    test::run(cache, step, s, t, 1);
    step.commit();
  }
  const auto report = sequence.report();
  CHECK(report.kept.size() == static_cast<std::size_t>(cache.plan().slots()));
  for (const auto& head : report.kept) {
    const int window = cache.plan().retained(head.slot);
    CHECK(head.kept == (window > 0 ? std::min(3, window - 1) : 3));
  }
}

}  // namespace laws
