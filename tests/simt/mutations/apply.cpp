// SPDX-License-Identifier: Apache-2.0
// Commits: rows enter, leave from pages that a fork shares, and close the holes.
#include "backend/cuda/apply_scene.hpp"

#include <tersekv/codec/int4.hpp>
#include <tersekv/read/quest.hpp>

namespace kv = tersekv;

int main() try {
  constexpr int dim = 20;
  using heads = test::two_heads<kv::int4<>, kv::quest, 1, false>;
  const heads::page_type page({}, {}, dim, dim);
  test::device_pages pages(page.bytes(), 30);
  kv::pool pool(std::pmr::new_delete_resource(), page.bytes(), 0);
  std::mt19937 random(1);
  const auto commit = [&](heads& head, int accepted, unsigned leaves) {  // a row of so many, where it is not zero
    test::commit_data c{};
    c.accepted = accepted;
    for (auto* x : {&c.keys, &c.values, &c.state}) {
      x->resize(static_cast<std::size_t>(accepted * (x == &c.state ? 1 : dim)));
      for (float& number : *x) number = std::normal_distribution<float>()(random);
    }
    if (leaves > 0) {
      c.keep.resize(static_cast<std::size_t>(head.host().live() + accepted));
      for (auto& k : c.keep) k = random() % leaves != 0;
    }
    head.commit(c);
  };
  {
    heads head(pool, pages, page);
    commit(head, 70, 0);
    heads fork(head);
    commit(head, 1, 0);
    commit(fork, 40, 3);
    commit(head, 1, 2);
  }
  CHECK(pages.held() == 0);
} catch (const simt::fault& fault) {
  return std::puts(fault.what()), 1;
}
