// SPDX-License-Identifier: Apache-2.0
// Choice of pages: queries that do not fit in shared memory at once, bounds that differ in their last bits only.
#include <cstdio>
#include <random>
#include <vector>

#include <tersekv/backend/cpu/page_choice.hpp>
#include <tersekv/backend/cuda/choose_pages.cuh>
#include <tersekv/codec/dense.hpp>
#include <tersekv/page_format.hpp>
#include <tersekv/read/quest.cuh>

#include "catch.hpp"

namespace kv = tersekv;
using namespace tersekv::detail;
using page_type = kv::page_format<kv::dense<kv::half>, kv::quest>;

struct host_head {
  const std::vector<std::byte*>& all;
  int pages() const { return static_cast<int>(all.size()); }
  const std::byte* summary(const page_type& format, int p) const {
    return format.summary(all[static_cast<std::size_t>(p)]);
  }
};

int main() try {
  constexpr int dim = 1024, group = 5, count = 9, wanted = 4 * page_type::rows;
  const page_type page({}, {wanted}, dim, 8);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::vector<kv::half>> bytes(count, std::vector<kv::half>(page.bytes() / 2));
  std::vector<std::byte*> pages;
  for (auto& b : bytes) {
    pages.push_back(reinterpret_cast<std::byte*>(b.data()));
    auto* least = reinterpret_cast<kv::half*>(page.summary(pages.back()));
    for (int c = 0; c < dim; ++c) {
      const float x = normal(random);
      least[c] = kv::from_float<kv::half>(x), least[dim + c] = kv::from_float<kv::half>(x + 1);
    }
  }
  device_head head{};
  head.page = pages.data(), head.packed = count * page_type::rows - 1;
  std::vector<float> queries(group * dim);
  for (float& x : queries) x = normal(random);
  device_query step{};
  step.heads = &head, step.n = 1, step.queries = {queries.data(), element::f32, group * dim, dim};
  const attend_shape shape{1, group, 1 / log2_of_e, 0, true};
  std::vector<unsigned> workspace(choose_pages_workspace(page, shape, 1, count) / 4 + 1, 0xffffffffu);
  const chosen_pages chosen = choose_pages(page, shape, &step, 1, count, workspace.data(), nullptr).of(0);
  page_choice choice;
  choose_pages(page.read, page, host_head{pages}, {queries.data(), group, dim, dim}, choice);
  CHECK(std::vector<int>(chosen.pages, chosen.pages + chosen.count) == choice.pages);
} catch (const simt::fault& fault) {
  return std::puts(fault.what()), 1;
}
