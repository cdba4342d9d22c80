// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/attention.hpp"

#include <tersekv/backend/cuda/prompt.cuh>
#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/ggml_iq4_nl.hpp>
#include <tersekv/codec/ggml_q4_0.hpp>
#include <tersekv/codec/ggml_q8_0.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/keys_values.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/codec/symmetric.hpp>

namespace prompt_codecs_test {

using namespace test;
using codecs =
    std::tuple<kv::dense<kv::half>, kv::dense<kv::bfloat16>, kv::int8<>, kv::affine<2, 32>, kv::affine<3, 4>,
               kv::affine<5, 32>, kv::symmetric<6>, kv::symmetric<7, 32>, kv::q4_0, kv::q8_0, kv::iq4_nl, kv::kivi<2>,
               kv::kivi<3, 64>, kv::affine<4, 32, kv::layout::rows>, kv::through<kv::hadamard, kv::kivi<4>>,
               kv::keys_values<kv::through<kv::hadamard, kv::symmetric<4>>, kv::int8<>>>;

TEMPLATE_LIST_TEST_CASE("prompts attend to rows of any codec", "[cuda]", codecs) {
  scene s;
  s.key_dim = 64, s.value_dim = 32, s.kv_heads = 2, s.group = 3;
  s.heads = {{3, 160, 5, 7}, {0, 128, 1, 0}, {0, 0, 0, 0}, {2, 32, 0, 2}};
  s.tokens = {30, 1};
  attention_batch<TestType> b(s);
  kd::launch_prompt<64>(b.page, b.shape, b.batch.data(), b.sequences(), b.most_tokens(), nullptr, nullptr);
  b.check(2e-3);
}

}  // namespace prompt_codecs_test
