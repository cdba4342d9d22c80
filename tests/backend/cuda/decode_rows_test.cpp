// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
// Which rows decode attention meets: of any number, hidden ones, with biases; any number of query heads.
#include "backend/cuda/decode_batch.hpp"

using namespace test;

namespace decode_rows_test {

void agrees(const batch_shape& shape, const std::vector<std::vector<head_shape>>& heads) {
  batch4 batch(shape, heads, 5);
  CAPTURE(shape.group, shape.tokens, shape.window, shape.key_dim, shape.sees_self);
  batch.run();
  test::agrees(batch);
}
std::vector<std::vector<head_shape>> one(const head_shape& h) { return {{h}}; }

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

}  // namespace decode_rows_test
