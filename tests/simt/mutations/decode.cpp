// SPDX-License-Identifier: Apache-2.0
// Decode attention: rings of three stages turn and end inside a piece; a head has no rows for most splits.
#include "backend/cuda/decode_batch.hpp"

#include <tersekv/codec/int4.hpp>

int main() try {
  test::decode_batch<tersekv::int4<32>> batch(
      {.key_dim = 64, .value_dim = 64, .group = 1},
      {{{.sinks = 4, .packed = 850, .window = 200, .dead_every = 5, .biased = true}, {.window = 7}}}, 3);
  batch.run_in_splits(24);
  const test::errors e = batch.compare();
  CHECK(e.kernel <= e.codec / 64);
} catch (const simt::fault& fault) {
  return std::puts(fault.what()), 1;
}
