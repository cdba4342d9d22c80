// SPDX-License-Identifier: Apache-2.0
#include <tersekv/backend/cuda/choose_pages.cuh>

#include <random>
#include <vector>

#include "catch.hpp"
#include "index.hpp"
#include "simt/schedules.hpp"

#include <tersekv/backend/cpu/decode.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/read/quest.cuh>

namespace kv = tersekv;
using namespace tersekv::detail;

namespace choose_pages_test {

using page_type = kv::page_format<kv::dense<kv::half>, kv::quest>;
using test::at;

/// What the CPU's choice reads of a head.
struct host_head {
  const device_head& head;
  int pages() const { return (head.packed + page_type::rows - 1) / page_type::rows; }
  const std::byte* summary(const page_type& format, int p) const { return format.summary(head.page[p]); }
};

void same_choice(int dim, int group, int rows, unsigned seed, float spread = 1) {
  CAPTURE(dim, group, rows, seed);
  constexpr int sequences = 2, kv_heads = 2, most_pages = 40;
  const page_type page(kv::dense<kv::half>{}, kv::quest{rows}, dim, dim);
  const attend_shape shape{kv_heads, group, 0.3f, 0, true};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<std::vector<std::byte>> bytes;
  std::vector<std::vector<std::byte*>> pages;
  std::vector<device_head> heads;
  for (int i = 0; i < sequences * kv_heads; ++i) {
    const int packed = i == 0 ? 0 : static_cast<int>(random() % (most_pages * page_type::rows));
    pages.emplace_back();
    for (int p = 0; p * page_type::rows < packed; ++p) {
      auto& b = bytes.emplace_back(page.bytes());
      auto* least = reinterpret_cast<kv::half*>(page.summary(b.data()));
      for (int c = 0; c < dim; ++c) {
        const float x = p % 7 == 3 ? 1.0f : normal(random);  // some pages tie
        least[c] = kv::from_float<kv::half>(x), least[dim + c] = kv::from_float<kv::half>(x + 1.0f);
        if (p == 5 && c == 2) least[c].bits = 0xfc00;
      }
      pages.back().push_back(b.data());
    }
    heads.push_back({});
    heads.back().packed = packed;
  }
  for (std::size_t i = 0; i < heads.size(); ++i) heads[i].page = pages[i].data();
  std::vector<std::vector<float>> queries;
  std::vector<device_query> batch;
  for (int s = 0; s < sequences; ++s) {
    auto& q = queries.emplace_back(at(kv_heads * group * dim));
    for (float& x : q) x = random() % 9 == 0 ? 0.0f : normal(random);
    batch.push_back({});
    batch.back().heads = heads.data() + s * kv_heads, batch.back().n = 1;
    batch.back().queries = {q.data(), element::f32, kv_heads * group * dim, dim};
  }
  std::vector<unsigned> workspace(choose_pages_workspace(page, shape, sequences, most_pages) / 4, 0xffffffffu);
  const page_lists lists = choose_pages(page, shape, batch.data(), sequences, most_pages, workspace.data(), nullptr);

  page_choice choice;
  for (int s = 0; s < sequences; ++s)
    for (int h = 0; h < kv_heads; ++h) {
      const host_head head{heads[at(s * kv_heads + h)]};
      std::vector<float> q(queries[at(s)].begin() + h * group * dim, queries[at(s)].begin() + (h + 1) * group * dim);
      for (float& x : q) x *= shape.scale * log2_e;
      const bool some = tersekv::detail::choose_pages(page.read, page, head, {q.data(), group, dim, dim}, choice);
      std::vector<int> want = some ? choice.pages : std::vector<int>();
      if (!some)
        for (int p = 0; p < head.pages(); ++p) want.push_back(p);
      const chosen_pages chosen = lists.of(s * kv_heads + h);
      CHECK(std::vector<int>(chosen.pages, chosen.pages + chosen.count) == want);
    }
}

TEST_CASE("kernels choose the pages that the CPU chooses", "[cuda]") {
  for (const auto& options : simt::schedules) {
    const simt::with settings(options);
    unsigned seed = 1;
    for (const int group : {1, 3, 4, 8, 16}) same_choice(128, group, 256, ++seed);
    for (const int dim : {32, 64, 256, 320}) same_choice(dim, 5, 100, ++seed);
    same_choice(41, 3, 1, ++seed);
    same_choice(64, 2, 1 << 20, ++seed);
    same_choice(1024, 6, 64, ++seed, 1e4f);
  }
}

}  // namespace choose_pages_test
