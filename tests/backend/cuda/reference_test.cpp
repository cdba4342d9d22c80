// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/attention.hpp"

#include "simt/schedules.hpp"

#include <tersekv/backend/cuda/reference.cuh>
#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/ggml_iq4_nl.hpp>
#include <tersekv/codec/ggml_q4_0.hpp>
#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/keys_values.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/codec/symmetric.hpp>

namespace reference_test {

using namespace test;

template <class Codec>
void run(attention_batch<Codec>& b, const kd::page_lists& lists = {}) {
  kd::reference_attention(b.page, b.shape, b.batch.data(), b.sequences(), b.most_tokens(), nullptr, lists, nullptr);
}

scene everything() {
  scene s;
  s.key_dim = 96, s.value_dim = 64, s.kv_heads = 2, s.group = 3;
  s.heads = {{3, 64, 5, 7}, {0, 128, 1, 0}, {0, 0, 0, 0}, {2, 32, 0, 2}};
  s.tokens = {3, 1};
  return s;
}

using r = kv::layout::rows;
using codecs = std::tuple<kv::dense<float>, kv::dense<kv::bfloat16>, kv::affine<3, 16>, kv::affine<5>, kv::symmetric<7>,
                          kv::affine<3, 0, r>, kv::basic_q4_0<r>, kv::basic_q8_0<r>, kv::iq4_nl, kv::kivi<4, 64>,
                          kv::kivi<3, 32, 0, kv::reopened, r>, kv::through<kv::hadamard, kv::kivi<2>>,
                          kv::keys_values<kv::through<kv::hadamard, kv::affine<3>>, kv::int8<>>>;

TEMPLATE_LIST_TEST_CASE("the reference attends to rows of any codec", "[cuda]", codecs) {
  attention_batch<TestType> b(everything());
  run(b);
  b.check(2e-5);
}

TEST_CASE("the reference: windows, strict causality, bias, elements, no sum, large logits", "[cuda]") {
  scene s = everything();
  SECTION("sliding window") { s.window = 40; }
  SECTION("window of the step's own rows") { s.window = 2; }
  SECTION("a query does not see its own row") { s.sees_self = false; }
  SECTION("bias") { s.biased = true; }
  SECTION("no sum") { s.wants_sum = false; }
  SECTION("large logits") { s.spread = 30; }
  SECTION("many heads of a group") { s.group = 16; }
  SECTION("odd sizes") { s.key_dim = 40, s.value_dim = 328; }
  SECTION("one row") { s.heads = {{0, 1, 0, 0}}, s.sees_self = false; }
  for (const auto& schedule : simt::schedules) {
    const simt::with settings(schedule);
    attention_batch<kv::affine<4, 8>> b(s);
    run(b);
    b.check(2e-5);
  }
}

TEST_CASE("the reference: engines' 16-bit numbers", "[cuda]") {
  scene s = everything();
  const bool half = GENERATE(true, false);
  s.type = half ? kd::element::f16 : kd::element::bf16;
  attention_batch<kv::int4<>> b(s);
  run(b);
  b.check(half ? 1e-3 : 8e-3);  // half a unit in the last place of the output
}

TEST_CASE("the reference: signs of a seeded transform", "[cuda]") {
  attention_batch<kv::through<kv::hadamard, kv::int8<>>> b(everything(), {kv::hadamard{5}, {}});
  run(b);
  b.check(2e-5);
}

TEST_CASE("the reference reads the pages of a list only", "[cuda]") {
  scene s;
  s.heads = {{2, 150, 3, 5}};
  s.group = 2;
  attention_batch<kv::int4<>> b(s);
  const std::vector<int> chosen = {1, 4};
  const int count = 2;
  run(b, {chosen.data(), &count, 2});
  for (int q = 0; q < 2; ++q) b.check(0, 0, q, 2e-5, b.expected(0, 0, q, &chosen));
}

}  // namespace reference_test
