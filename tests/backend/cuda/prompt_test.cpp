// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "backend/cuda/attention.hpp"

#include "simt/schedules.hpp"

#include <tersekv/backend/cuda/prompt.cuh>
#include <tersekv/codec/int4.hpp>

namespace prompt_test {

using namespace test;

template <class Codec>
void run(attention_batch<Codec>& b) {
  kd::prompt_attention(b.page, b.shape, b.batch.data(), b.sequences(), b.most_tokens(), nullptr, nullptr);
}

scene prompt() {
  scene s;
  s.key_dim = 128, s.value_dim = 128, s.group = 2;
  s.heads = {{3, 96, 5, 7}, {0, 0, 70, 0}, {0, 0, 0, 0}};
  s.tokens = {35, 5, 1};
  return s;
}

TEST_CASE("prompts: whatever the order of threads", "[cuda]") {
  scene s = prompt();
  s.kv_heads = 2;
  for (const auto& schedule : simt::schedules) {
    const simt::with settings(schedule);
    attention_batch<kv::int4<>> b(s);
    run(b);
    b.check(2e-3);
  }
}

TEST_CASE("prompts: windows, strict causality, bias, elements, no sum, large logits, odd sizes", "[cuda]") {
  scene s = prompt();
  double error = 2e-3;
  SECTION("sliding window") { s.window = 40; }
  SECTION("window of the step's own rows") { s.window = 2; }
  SECTION("a query does not see its own row") { s.sees_self = false; }
  SECTION("bias") { s.biased = true; }
  SECTION("no sum") { s.wants_sum = false; }
  SECTION("large logits") { s.spread = 10, error = 1e-2; }  // half a unit of a half in logits of 50
  SECTION("large queries") { s.spread = 1e6f, s.heads = {{1, 0, 0, 0}}, s.tokens = {3}; }
  SECTION("a group of seven") { s.group = 7, s.tokens = {20}; }
  SECTION("64 channels") { s.key_dim = s.value_dim = 64; }
  SECTION("80 channels") { s.key_dim = s.value_dim = 80; }
  SECTION("96 channels") { s.key_dim = s.value_dim = 96; }
  SECTION("256 channels") { s.key_dim = s.value_dim = 256; }
  SECTION("odd sizes") { s.key_dim = 40, s.value_dim = 72; }
  SECTION("sizes that no word divides") { s.key_dim = 24, s.value_dim = 200; }
  SECTION("last page partly filled") { s.heads = {{1, 77, 0, 0}}; }
  const simt::with settings(simt::schedules[2]);
  attention_batch<kv::int4<8>> b(s);
  run(b);
  b.check(error);
}

TEST_CASE("prompts: engines' 16-bit numbers", "[cuda]") {
  scene s = prompt();
  const bool half = GENERATE(true, false);
  s.type = half ? kd::element::f16 : kd::element::bf16;
  attention_batch<kv::int4<>> b(s);
  run(b);
  b.check(half ? 3e-3 : 8e-3);
}

TEST_CASE("prompts: more channels than the kernel takes go to the reference", "[cuda]") {
  scene s = prompt();
  s.key_dim = 264, s.tokens = {3};
  attention_batch<kv::int4<8>> b(s);
  run(b);
  b.check(2e-5);
}

}  // namespace prompt_test
