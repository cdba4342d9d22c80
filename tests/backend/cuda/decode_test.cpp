// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/decode_batch.hpp"

#include <cstdio>
#include <cstdlib>

#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/symmetric.hpp>

using namespace test;

namespace {

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
  else
    CHECK(e.relative() <= 1e-3);
}

const std::vector<std::vector<head_shape>> two_heads = {{{.packed = 200}, {.packed = 77}}};

template <class Codec>
void all_kinds(const char* name, int bits) {
  for (const kind what : {kind::gaussian, kind::heavy_tails, kind::channel_means, kind::far_values,
                          kind::logits_of_eighty, kind::sink, kind::tiny})
    keeps_its_promise<Codec>(name, bits, {.what = what}, two_heads);
}

}  // namespace

TEST_CASE("decode attention on the device stays below the codec's error", "[cuda][decode]") {
  all_kinds<kv::int4<0>>("int4", 4);
  all_kinds<kv::int4<32>>("int4 of 32", 4);
  all_kinds<kv::int8<0>>("int8", 8);
  all_kinds<kv::affine<2, 32>>("affine 2", 2);
  all_kinds<kv::symmetric<4, 64>>("symmetric 4", 4);
}
