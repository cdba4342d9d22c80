// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <numeric>

#include <tersekv/error.hpp>
#include <tersekv/transform/hadamard.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

namespace hadamard_test {
double dot(const std::vector<float>& a, const std::vector<float>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(sum);
}
/// Row i, column j of the Sylvester matrix of size n, by the parity of i & j.
float sylvester(int n, int i, int j) {
  return (std::popcount(static_cast<unsigned>(i & j)) % 2 == 0 ? 1.0f : -1.0f) / std::sqrt(static_cast<float>(n));
}
TEST_CASE("hadamard is block-diagonal, of the largest power of two that divides the dimension", "[transform]") {
  CHECK(kv::hadamard::block(128) == 128);
  CHECK(kv::hadamard::block(96) == 32);
  CHECK(kv::hadamard::block(80) == 16);
  CHECK(kv::hadamard::block(40) == 8);
  for (const int dim : {8, 16, 40, 64, 80, 96, 128, 576}) {
    const int n = kv::hadamard::block(dim);
    for (int j = 0; j < dim; j += 3) {
      std::vector<float> x(static_cast<std::size_t>(dim), 0.0f);
      x[static_cast<std::size_t>(j)] = 1;
      kv::hadamard{}.key(x.data(), dim);
      for (int i = 0; i < dim; ++i)
        REQUIRE(x[static_cast<std::size_t>(i)] ==
                Approx(i / n == j / n ? sylvester(n, i % n, j % n) : 0.0f).margin(1e-7));
    }
  }
}

TEST_CASE("hadamard spreads one number evenly", "[transform]") {
  std::vector<float> x(16, 0.0f);
  x[0] = 1;
  kv::hadamard{}.value(x.data(), 16);
  for (const float v : x) CHECK(v == 0.25f);
}

TEST_CASE("hadamard keeps products and norms and undoes itself", "[transform]") {
  for (const int seed : {0, 1, -5}) {
    const kv::hadamard h{.seed = seed};
    for (const int dim : {8, 40, 64, 80, 96, 128, 256}) {
      const auto k = laws::gaussian(1, dim, 21), q = laws::gaussian(1, dim, 22), v = laws::gaussian(1, dim, 23);
      auto turned_k = k, turned_q = q, turned_v = v;
      h.key(turned_k.data(), dim), h.query(turned_q.data(), dim), h.value(turned_v.data(), dim);
      CHECK(dot(turned_k, turned_q) == Approx(dot(k, q)).epsilon(1e-5).margin(1e-4));
      CHECK(dot(turned_v, turned_v) == Approx(dot(v, v)).epsilon(1e-5));
      CHECK(distance(turned_k, k) > 0.5);
      h.restore_key(turned_k.data(), dim), h.output(turned_v.data(), dim);
      CHECK(distance(turned_k, k) < 1e-5);
      CHECK(distance(turned_v, v) < 1e-5);
      auto twice = k;
      kv::hadamard{}.key(twice.data(), dim), kv::hadamard{}.key(twice.data(), dim);
      CHECK(distance(twice, k) < 1e-5);
    }
  }
}

TEST_CASE("outputs may be summed before they are turned back", "[transform]") {
  const kv::hadamard h{.seed = 9};
  const int dim = 96;
  auto a = laws::gaussian(1, dim, 1), b = laws::gaussian(1, dim, 2), mean = a;
  for (std::size_t i = 0; i < mean.size(); ++i) mean[i] = 0.25f * a[i] + 0.75f * b[i];
  h.value(a.data(), dim), h.value(b.data(), dim);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = 0.25f * a[i] + 0.75f * b[i];
  h.output(a.data(), dim);
  CHECK(distance(a, mean) < 1e-5);
}

TEST_CASE("signs come from the seed alone and are about half of each", "[transform]") {
  const int dim = 256;
  const auto signs = [&](int seed) {  // backward of forward without signs
    std::vector<float> x(dim, 1.0f);
    kv::hadamard{}.key(x.data(), dim);
    kv::hadamard{.seed = seed}.restore_key(x.data(), dim);
    return x;
  };
  const auto one = signs(1);
  CHECK(one == signs(1));
  CHECK(distance(one, signs(2)) > 5);
  const auto positive = std::count_if(one.begin(), one.end(), [](float x) { return x > 0; });
  CHECK(positive > 96);
  CHECK(positive < 160);
  for (const float x : one) CHECK(std::abs(x) == Approx(1));
}

TEST_CASE("hadamard says which head dimensions fit", "[transform]") {
  CHECK_THROWS_WITH(kv::hadamard{}.check(36),
                    "tersekv::hadamard: the head dimension is 36, but must be a multiple of 8");
  CHECK_NOTHROW(kv::hadamard{}.check(40));
}

}  // namespace hadamard_test
