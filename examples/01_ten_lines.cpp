// SPDX-License-Identifier: Apache-2.0
// Ten lines: compose policies, feed rows, attend, and see what is saved. The loop is the same for every recipe.
#include <random>
#include <vector>

#include <tersekv/tersekv.hpp>
namespace kv = tersekv;

int main() {
  std::mt19937 engine(1);  // a stand-in for a model: random rows
  std::normal_distribution<float> normal;
  const auto rows = [&](int n, int heads) {
    std::vector<float> x(static_cast<std::size_t>(n * heads * 64));
    for (float& e : x) e = normal(engine);
    return x;
  };

  // [ten lines]
  auto cache = kv::make_cache({.layers = 4, .query_heads = 8, .kv_heads = 2, .head_dim = 64}, kv::cpu{},
                              kv::h2o{.heavy = 256, .recent = 256}, kv::d2o{}, kv::kivi<2>{});
  auto chat = cache.open();                          // a sequence; its memory is freed when it goes out of scope
  for (int n = 2048; chat.length() < 2100; n = 1) {  // a prompt, then one token at a time
    auto step = chat.step(n);
    for (int layer = 0; layer < 4; ++layer) {
      auto k = rows(n, 2), v = rows(n, 2), q = rows(n, 8), out = rows(n, 8);
      if (cache.owns(layer)) step.append(layer, kv::view(k.data(), n, 2, 64), kv::view(v.data(), n, 2, 64));
      step.attend(layer, kv::view(q.data(), n, 8, 64), kv::view(out.data(), n, 8, 64));
    }
    step.commit();  // rows become permanent; trim and pack happen here, only here
  }
  kv::print(kv::report(cache));
  // [ten lines]
}
