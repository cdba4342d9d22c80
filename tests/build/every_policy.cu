// SPDX-License-Identifier: Apache-2.0
// The kernels of recipes that cover all policies with kernels of their own, instantiated: headers alone are only
// parsed.
#include <tersekv/backend/cuda.cuh>

namespace kv = tersekv;

template <class... Ps>
void use(Ps... policies) {
  auto cache = kv::make_cache({.layers = 4, .query_heads = 8, .kv_heads = 2, .head_dim = 128}, kv::cuda{}, policies...);
  auto chat = cache.open();
  auto other = chat.fork();
  auto step = chat.step(1);
  kv::view k(static_cast<const kv::half*>(nullptr), 1, 2, 128), q(static_cast<const kv::half*>(nullptr), 1, 8, 128),
      out(static_cast<kv::half*>(nullptr), 1, 8, 128);
  step.append(0, k, k);
  step.attend(0, q, out);
  step.change(0);
  decltype(step)* const batch[] = {&step};
  kv::append(batch, 0, std::span(&k, 1), std::span(&k, 1));
  kv::attend(batch, 0, std::span(&q, 1), std::span(&out, 1));
  kv::commit(batch);
  kv::report(cache);
}

void instances() {
  use(kv::yoco{}, kv::h2o{}, kv::ada{}, kv::log_mass<kv::d2o>{}, kv::sinks<4, kv::kivi<2>>{}, kv::quest{});
  use(kv::snapkv{}, kv::pyramid{}, kv::weighted_kv{}, kv::through<kv::hadamard, kv::int4<0>>{});
  use(kv::lckv<2>{}, kv::keydiff{}, kv::dense<kv::bfloat16>{});
}
