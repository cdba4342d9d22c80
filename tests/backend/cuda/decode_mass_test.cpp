// SPDX-License-Identifier: Apache-2.0
// Decode attention over lists of pages, and what it leaves for policies.
#include "backend/cuda/decode_batch.hpp"

namespace decode_mass_test {

using namespace test;

TEST_CASE("lists of pages, and attention mass", "[cuda][decode]") {
  for (const bool listed : {false, true}) {
    batch4 batch({.key_dim = 64, .value_dim = 64, .tokens = 3},
                 {{{.sinks = 3, .packed = 400, .window = 35}, {.packed = 161, .dead_every = 5}}}, 21);
    const std::vector<int> pages = {0, 2, 3, 9, 12, 1, 5, 0, 0, 0}, counts = {5, 2};
    const kd::page_lists lists = listed ? kd::page_lists{pages.data(), counts.data(), 5} : kd::page_lists{};
    const batch4::filter reads = [&](int, int head, int row) {
      const int* list = pages.data() + 5 * head;
      return !listed || std::find(list, list + counts[at(head)], row / 32) != list + counts[at(head)];
    };
    void* workspace = batch.run(true, lists);
    agrees(batch, reads);

    const int stride = 460, tokens = 3;
    std::vector<float> mass(at(2 * tokens * stride), listed ? 0.0f : 1.0f);  // rows that are read are overwritten
    kd::column_mass(batch.page, batch.attend, batch.queries.data(), batch.most, workspace, lists,
                    kd::step_mass{mass.data(), stride, tokens}, nullptr);
    for (int head = 0; head < 2; ++head)
      for (int i = 0; i < tokens; ++i) {
        std::vector<double> want(at(stride), listed ? 0.0 : 1.0);
        for (int g = 0; g < 4; ++g) {
          double ignored = 0;
          const auto w = batch.weights(0, head, i, g, false, ignored, reads);
          for (std::size_t t = 0; t < w.size(); ++t) want[t] = (g == 0 ? 0.0 : want[t]) + w[t] / 4;
        }
        double worst = 0;
        for (int t = 0; t < stride; ++t)
          worst =
              std::max(worst, std::abs(static_cast<double>(mass[at((head * tokens + i) * stride + t)]) - want[at(t)]));
        CHECK(worst < 1e-3);
      }
  }
}

}  // namespace decode_mass_test
