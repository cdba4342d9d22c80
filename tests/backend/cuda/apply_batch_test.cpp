// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "apply_scene.hpp"

#include <tersekv/tersekv.hpp>

using namespace test;

namespace apply_batch_test {

constexpr int sequences = 2, slots = 3, kv_heads = 2, dim = 16, most = 64, columns = 2;
constexpr int heads = sequences * slots * kv_heads;
using page_type = kv::page_format<kv::int4<>, kv::read_all>;

/// Heads of a batch with room for `most` rows.
struct batch_memory {
  struct arrays {
    std::byte* page[3];
    int position[most];
    float state[most * columns];
    kv::half dense[4][dim];
  };
  std::vector<arrays> rows = std::vector<arrays>(heads);
  std::vector<kd::device_head> head;
  explicit batch_memory() {
    for (arrays& a : rows)
      head.push_back(
          {a.page, a.position, a.state, nullptr, a.dense[0], a.dense[1], a.dense[2], a.dense[3], 0, 0, 0, 0});
  }
};

TEST_CASE("a batch of sequences in one launch is each head alone", "[apply]") {
  const page_type page({}, {}, dim, dim);
  device_pages pages(page.bytes(), 100);
  batch_memory together, alone;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const int length[sequences] = {5, 0}, accepted[sequences] = {40, 33};
  std::vector<kv::half> numbers(sequences * slots * 2 * most * kv_heads * dim);
  for (auto& x : numbers) x = kv::from_float<kv::half>(normal(random));
  std::vector<kd::device_array> staged;  // [sequences, keys | values, slots]
  for (int i = 0; i < sequences * 2 * slots; ++i)
    staged.push_back({numbers.data() + i * most * kv_heads * dim, kd::element::f16, kv_heads * dim, dim});
  std::vector<float> state(heads * most * columns);
  for (float& x : state) x = normal(random);
  std::vector<unsigned char> keep(heads * most);
  for (auto& k : keep) k = random() % 3 != 0;

  int length_after[sequences] = {};
  const auto sequence = [&](int s, kd::device_head* first) {
    const kd::device_array* keys = staged.data() + s * 2 * slots;
    constexpr std::int64_t bytes = most * kv_heads * dim * sizeof(kv::half);
    return kd::device_apply{first, {keys[0], bytes}, {keys[slots], bytes}, length[s], accepted[s], &length_after[s]};
  };
  kd::device_apply batch[sequences];
  for (int s = 0; s < sequences; ++s) batch[s] = sequence(s, together.head.data() + s * slots * kv_heads);
  kd::apply_batch b{};
  b.sequences = batch, b.count = sequences, b.slots = slots, b.kv_heads = kv_heads;
  b.most_rows = most, b.most_accepted = most, b.staged_state = state.data(), b.keep = keep.data();
  kd::apply_rows<page_type, columns, false>(page, pages.pool(), b, nullptr, nullptr);
  CHECK(length_after[0] == 45);
  CHECK(length_after[1] == 33);

  for (int i = 0; i < heads; ++i) {
    const int s = i / (slots * kv_heads), slot = i / kv_heads % slots, h = i % kv_heads;
    kd::device_array keys = batch[s].keys[slot], values = batch[s].values[slot];
    for (auto* a : {&keys, &values}) a->data = static_cast<kv::half*>(a->data) + h * dim;
    const kd::device_apply one{&alone.head[at(i)], {keys, 0}, {values, 0}, length[s], accepted[s], nullptr};
    kd::apply_batch single = b;
    single.sequences = one, single.count = single.slots = single.kv_heads = 1;
    single.staged_state = state.data() + i * most * columns, single.keep = keep.data() + i * most;
    kd::apply_rows<page_type, columns, false>(page, pages.pool(), single, nullptr, nullptr);

    const kd::device_head &x = together.head[at(i)], &y = alone.head[at(i)];
    REQUIRE(x.packed > 10);
    REQUIRE(x.packed == y.packed);
    for (int r = 0; r < x.packed; ++r) {
      REQUIRE(x.position[r] == y.position[r]);
      REQUIRE(x.position[r] >= length[s]);
      for (int n = 0; n < columns; ++n) REQUIRE(x.state[r * columns + n] == y.state[r * columns + n]);
    }
    for (int p = 0; p * page_type::rows < x.packed; ++p)
      REQUIRE(std::memcmp(x.page[p], y.page[p], page.bytes() - kd::page_header) == 0);
  }
}

}  // namespace apply_batch_test
