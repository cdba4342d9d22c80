// SPDX-License-Identifier: Apache-2.0
// Which rows decode attention meets: of any number, hidden ones, several sequences, lists of pages; and what it leaves.
#include "backend/cuda/decode_batch.hpp"

#include <tersekv/codec/int4.hpp>

using namespace test;

namespace {

using batch4 = decode_batch<kv::int4<32>>;

void agrees(batch4& batch, const batch4::filter& listed = {}) {
  const errors e = batch.compare(listed);
  CHECK(e.kernel <= e.codec / 64 + 1e-6 * e.output);
}
void agrees(const batch_shape& shape, const std::vector<std::vector<head_shape>>& heads) {
  batch4 batch(shape, heads, 5);
  CAPTURE(shape.group, shape.tokens, shape.window, shape.key_dim, shape.sees_self);
  batch.run();
  agrees(batch);
}
std::vector<std::vector<head_shape>> one(const head_shape& h) { return {{h}}; }

}  // namespace

TEST_CASE("any number of rows", "[cuda][decode]") {
  for (const int packed : {0, 1, 31, 32, 33, 64, 1000})
    agrees({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .group = 2}, one({.packed = packed}));
  for (const int rows : {1, 31, 33, 300}) {
    agrees({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .group = 2}, one({.window = rows}));
    agrees({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .group = 2},
           one({.sinks = rows % 7, .packed = 70, .window = rows}));
  }
}

TEST_CASE("nothing visible gives zeros", "[cuda][decode]") {
  agrees({.kv_heads = 1, .sees_self = false}, one({}));
  agrees({.kv_heads = 1, .sees_self = false}, one({.packed = 40, .dead_every = 1}));
}

TEST_CASE("any number of query heads and tokens", "[cuda][decode]") {
  for (const int group : {1, 2, 3, 4, 5, 6, 7, 8, 16})
    agrees({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .group = group},
           one({.sinks = 2, .packed = 90, .window = 9}));
  for (const int tokens : {2, 3, 5, 8})
    for (const bool self : {true, false})
      agrees({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .group = 4, .tokens = tokens, .sees_self = self},
             one({.packed = 90, .window = 9}));
}

TEST_CASE("elements and dimensions", "[cuda][decode]") {
  for (const kd::element e : {kd::element::f16, kd::element::bf16}) {
    batch4 batch({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .element = e}, one({.packed = 50, .window = 3}), 5);
    batch.run();
    const errors of = batch.compare();
    CHECK(of.relative() <= (e == kd::element::f16 ? 1e-3 : 4e-3));  // outputs are rounded
  }
  for (const auto& [k, v] : {std::pair(96, 96), std::pair(192, 128), std::pair(256, 256)})
    agrees({.key_dim = k, .value_dim = v, .kv_heads = 1}, one({.sinks = 4, .packed = 75, .window = 33}));
}

TEST_CASE("hidden rows and biases", "[cuda][decode]") {
  for (const int window : {0, 1, 40, 200})
    for (const int dead : {0, 3})
      agrees({.key_dim = 64, .value_dim = 64, .kv_heads = 1, .tokens = 2, .window = window},
             one({.sinks = 4, .packed = 170, .window = 20, .dead_every = dead, .biased = dead > 0}));
}

TEST_CASE("a batch of ragged sequences, in any order of threads", "[cuda][decode]") {
  const std::vector<std::vector<head_shape>> heads = {{{.packed = 700}, {.packed = 3}},
                                                      {{}, {.sinks = 4, .packed = 64, .window = 40}},
                                                      {{.window = 7}, {.packed = 520}}};
  const batch_shape shape{.key_dim = 64, .value_dim = 64};
  std::vector<unsigned char> first;
  for (const auto order : {simt::order::fifo, simt::order::lifo, simt::order::random}) {
    const simt::with settings({.schedule = order, .copies = simt::async_copy::random, .seed = 3});
    batch4 batch(shape, heads, 9);
    batch.run();
    agrees(batch);
    std::vector<unsigned char> all;
    for (const auto& s : batch.sequences) all.insert(all.end(), s.out.begin(), s.out.end());
    if (first.empty()) first = all;
    CHECK(all == first);  // bit for bit
  }
}

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
    std::vector<float> mass(at(2 * tokens * stride), 1.0f);
    kd::column_mass(batch.page, batch.attend, batch.queries.data(), batch.most, workspace, lists, mass.data(), tokens,
                    stride, nullptr);
    for (int head = 0; head < 2; ++head)
      for (int i = 0; i < tokens; ++i) {
        std::vector<double> want(at(stride), 1.0);
        for (int g = 0; g < 4; ++g) {
          double ignored = 0;
          const auto w = batch.weights(0, head, i, g, false, ignored, reads);
          for (std::size_t t = 0; t < w.size(); ++t) want[t] += w[t] / 4;
        }
        double worst = 0;
        for (int t = 0; t < stride; ++t)
          worst =
              std::max(worst, std::abs(static_cast<double>(mass[at((head * tokens + i) * stride + t)]) - want[at(t)]));
        CHECK(worst < 1e-3);
      }
  }
}
