// SPDX-License-Identifier: Apache-2.0
// Prompt attention: several tiles of every kind of row, and a last one that is not full.
#include "backend/cuda/attention.hpp"

#include <tersekv/backend/cuda/prompt.cuh>
#include <tersekv/codec/int4.hpp>

int main() try {
  test::scene s;
  s.heads = {{3, 130, 5, 7}}, s.tokens = {66};
  test::attention_batch<tersekv::int4<>> b(s);
  tersekv::detail::launch_prompt<64>(b.page, b.shape, b.batch.data(), b.sequences(), b.most_tokens(), nullptr, nullptr);
  b.check(2e-3);
} catch (const simt::fault& fault) {
  return std::puts(fault.what()), 1;
}
