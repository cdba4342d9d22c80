// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/decode_batch.hpp"

#include <cstdio>
#include <cstdlib>

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

using namespace test;

namespace decode_test {

template <class Codec>
void keeps_its_promise(const char* name, int bits, const batch_shape& shape,
                       const std::vector<std::vector<head_shape>>& heads) {
  decode_batch<Codec> batch(shape, heads, 11);
  batch.run();
  const errors e = batch.compare();
  CAPTURE(name, shape.key_dim, shape.group, shape.tokens, static_cast<int>(shape.what), e.ratio(), e.relative());
  if (std::getenv("TERSEKV_REPORT"))
    std::printf("%-12s dim %3d group %2d tokens %d kind %d  of quantization %.4f  of output %.2e\n", name,
                shape.key_dim, shape.group, shape.tokens, static_cast<int>(shape.what), e.ratio(), e.relative());
  if (bits <= 4)
    CHECK(e.kernel <= e.codec / 64 + 1e-10 * e.output);
  else  // queries of f32 keep 11 bits, which large logits show
    CHECK(e.relative() <= (shape.what == kind::logits_of_eighty && shape.element == kd::element::f32 ? 2e-3 : 1e-3));
}

/// Heads that end inside a page where the codec allows it.
template <class Codec>
std::vector<std::vector<head_shape>> two_heads() {
  constexpr int span = decode_batch<Codec>::page_type::span;
  return {{{.packed = 200 / span * span}, {.packed = span > 1 ? 3 * span : 77}}};
}

template <class Codec>
void all_kinds(const char* name, int bits) {
  for (const kind what : {kind::gaussian, kind::heavy_tails, kind::channel_means, kind::far_values,
                          kind::logits_of_eighty, kind::sink, kind::tiny})
    keeps_its_promise<Codec>(name, bits, {.what = what}, two_heads<Codec>());
  if (bits > 4)
    keeps_its_promise<Codec>(name, bits, {.element = kd::element::f16, .what = kind::logits_of_eighty},
                             two_heads<Codec>());
}

TEST_CASE("decode attention on the device stays below the codec's error", "[cuda][decode]") {
  all_kinds<kv::int4<0>>("int4", 4);
  all_kinds<kv::int4<32>>("int4 of 32", 4);
  all_kinds<kv::int8<0>>("int8", 8);
  all_kinds<kv::affine<2, 32>>("affine 2", 2);
  all_kinds<kv::symmetric<4, 64>>("symmetric 4", 4);
}

TEST_CASE("decode attention over blocks of ggml", "[cuda][decode]") {
  all_kinds<kv::q4_0>("q4_0", 4);
  all_kinds<kv::q8_0>("q8_0", 8);
  all_kinds<kv::iq4_nl>("iq4_nl", 4);
}

TEST_CASE("decode attention over keys with a grid per channel", "[cuda][decode]") {
  all_kinds<kv::kivi<2, 32, 0>>("kivi 2", 2);
  all_kinds<kv::kivi<4, 64, 0>>("kivi 4 of 64", 4);
  all_kinds<kv::kivi<8, 128, 0>>("kivi 8 of 128", 8);
}

TEST_CASE("decode attention over 16-bit numbers", "[cuda][decode]") {
  all_kinds<kv::dense<kv::half>>("f16", 16);
  all_kinds<kv::dense<kv::bfloat16>>("bf16", 16);
}
TEST_CASE("decode attention over long rows of numbers fits every GPU", "[cuda][decode]") {
  for (const auto& [k, v] : {std::pair(96, 96), std::pair(128, 128), std::pair(192, 128), std::pair(256, 256)})
    for (const int group : {4, 16}) {
      const batch_shape shape{.key_dim = k, .value_dim = v, .kv_heads = 1, .group = group};
      keeps_its_promise<kv::dense<kv::half>>("f16", 16, shape, {{{.sinks = 3, .packed = 300, .window = 5}}});
    }
  keeps_its_promise<kv::keys_values<kv::int8<0>, kv::dense<kv::half>>>(
      "int8 and f16", 8, {.key_dim = 256, .value_dim = 256, .kv_heads = 1}, {{{.packed = 300, .window = 5}}});
}

}  // namespace decode_test
