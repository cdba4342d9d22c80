// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
// Decode attention for several sequences at once, and long splits.
#include "backend/cuda/decode_batch.hpp"

#include "simt/schedules.hpp"

namespace decode_batch_test {

using namespace test;

TEST_CASE("a batch of ragged sequences, in any order of threads", "[cuda][decode]") {
  const std::vector<std::vector<head_shape>> heads = {{{.packed = 300}, {}},
                                                      {{.sinks = 4, .packed = 64, .window = 40}, {.window = 7}}};
  const batch_shape shape{.key_dim = 64, .value_dim = 64};
  std::vector<unsigned char> first;
  for (const auto& schedule : simt::schedules) {
    const simt::with settings(schedule);
    batch4 batch(shape, heads, 9);
    batch.run();
    agrees(batch);
    std::vector<unsigned char> all;
    for (const auto& s : batch.sequences) all.insert(all.end(), s.out.begin(), s.out.end());
    if (first.empty()) first = all;
    CHECK(all == first);  // bit for bit
  }
}

TEST_CASE("rings turn in long splits", "[cuda][decode]") {
  for (const auto& schedule : simt::schedules) {
    const simt::with settings(schedule);
    batch4 batch({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .group = 1}, {{{.packed = 850}}}, 10);
    batch.run_in_splits(24);
    agrees(batch);
  }
}

}  // namespace decode_batch_test
