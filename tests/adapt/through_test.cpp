// SPDX-License-Identifier: Apache-2.0
#include <tersekv/adapt/through.hpp>
#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/kivi.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

namespace through_test {
/// Four channels with mean +-10 and deviation 2, the others with mean about 0.3 and deviation 1.
std::vector<float> structured_keys(int rows, int dim, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw;
  std::vector<float> mean(static_cast<std::size_t>(dim)), sigma(mean.size(), 1.0f);
  for (float& m : mean) m = 0.3f * draw(engine);
  for (int i = 0; i < 4; ++i) {
    const std::size_t c = engine() % mean.size();
    mean[c] = engine() % 2 == 0 ? 10.0f : -10.0f, sigma[c] = 2;
  }
  return laws::fill(rows, dim, [&](int, int c) {
    const auto i = static_cast<std::size_t>(c);
    return mean[i] + sigma[i] * draw(engine);
  });
}
/// Error energy without its mean over rows, against the energy of the keys without theirs: what softmax can see.
double visible_error(const std::vector<float>& x, const std::vector<float>& y, int dim) {
  const int rows = static_cast<int>(x.size()) / dim;
  double error = 0, energy = 0;
  for (int c = 0; c < dim; ++c) {
    double sum_e = 0, sum_x = 0, squares_e = 0, squares_x = 0;
    for (int r = 0; r < rows; ++r) {
      const std::size_t i = laws::size(r, dim) + static_cast<std::size_t>(c);
      const auto a = static_cast<double>(x[i]), e = static_cast<double>(y[i]) - a;
      sum_e += e, squares_e += e * e, sum_x += a, squares_x += a * a;
    }
    error += squares_e - sum_e * sum_e / rows, energy += squares_x - sum_x * sum_x / rows;
  }
  return error / energy;
}
template <class Codec>
double key_error(const Codec& codec) {
  double sum = 0;
  for (unsigned seed = 1; seed <= 16; ++seed) {
    const auto x = structured_keys(256, 128, seed);
    sum += visible_error(x, laws::round_trip(codec.for_keys(), x, 128), 128) / 16;
  }
  return sum;
}
TEST_CASE("a transform keeps the storage laws of the codec behind it", "[adapt]") {
  for (const int dim : {8, 64, 96, 128}) {
    laws::keeps_its_storage_laws(kv::through<kv::hadamard, kv::int4<>>{}.for_keys(), dim);
    laws::keeps_its_storage_laws(kv::through<kv::hadamard, kv::int4<>>{{.seed = 3}, {}}.for_values(), dim);
    laws::keeps_its_storage_laws(kv::through<kv::hadamard, kv::kivi<2>>{}.for_keys(), dim);
  }
  CHECK(laws::bits_per_number(kv::through<kv::hadamard, kv::int4<0>>{}.for_keys(), 32, 128) == 4.25);
}

TEST_CASE("rows come back in their own basis", "[adapt]") {
  for (const int seed : {0, 4})
    for (const int dim : {40, 96, 128}) {
      const auto x = laws::gaussian(32, dim);
      const kv::through<kv::hadamard, kv::dense<float>> exact{{.seed = seed}, {}};
      CHECK(laws::squared_error(x, laws::round_trip(exact.for_keys(), x, dim)) < 1e-12);
      CHECK(laws::squared_error(x, laws::round_trip(exact.for_values(), x, dim)) < 1e-12);
    }
}

TEST_CASE("the bytes are those of transformed rows", "[adapt]") {
  const kv::through<kv::hadamard, kv::int4<>> codec{{.seed = 6}, {}};
  const auto x = laws::gaussian(32, 64);
  auto turned = x;
  for (int r = 0; r < 32; ++r) codec.turn.key(turned.data() + r * 64, 64);
  CHECK(laws::encoded(codec.for_keys(), x, 64, 32) == laws::encoded(kv::int4<>{}.for_keys(), turned, 64, 32));
}

TEST_CASE("normal numbers lose the same with and without a rotation", "[adapt]") {
  CHECK(laws::gaussian_error(kv::through<kv::hadamard, kv::int4<>>{}.for_keys()) == Approx(.00610).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::through<kv::hadamard, kv::affine<2, 128>>{}.for_values()) ==
        Approx(.251).epsilon(0.03));
}

TEST_CASE("keys with large channels want scales per channel, or at least a rotation", "[adapt]") {
  const double per_token = key_error(kv::int4<0>{});
  const double per_token_32 = key_error(kv::int4<32>{});
  const double rotated = key_error(kv::through<kv::hadamard, kv::int4<0>>{});
  const double per_channel = key_error(kv::kivi<4>{});
  CHECK(per_channel == Approx(.0061).epsilon(0.05));
  CHECK(rotated == Approx(.035).epsilon(0.15));
  CHECK(per_token_32 == Approx(.047).epsilon(0.15));
  CHECK(per_token == Approx(.140).epsilon(0.15));
  CHECK(per_channel < rotated);
  CHECK(rotated < per_token_32);
  CHECK(per_token_32 < per_token);
}

TEST_CASE("names and numbers of wrapped codecs are joined", "[adapt]") {
  using wrapped = kv::through<kv::hadamard, kv::kivi<2, 64>>;
  CHECK(wrapped::name == "kivi@hadamard");
  CHECK(wrapped::structure == std::array{2, 64, 128});
  CHECK(wrapped::window == 128);
  wrapped codec;
  codec.tuning([](std::string_view name, auto& value) {
    if (name == "seed") value = 8;
  });
  CHECK(codec.for_keys().turn.seed == 8);
}

TEST_CASE("a transform refuses dimensions that it or its codec cannot take", "[adapt]") {
  const kv::through<kv::hadamard, kv::int4<>> rows;
  CHECK_THROWS_AS(rows.for_keys().check(36), kv::shape_error);
  CHECK_THROWS_AS(rows.for_keys().check(40), kv::shape_error);
  CHECK_NOTHROW(rows.for_keys().check(1024));
  const kv::through<kv::hadamard, kv::kivi<2, 64>> spans;
  CHECK_NOTHROW(spans.for_keys().check(512));
  CHECK_THROWS_WITH(spans.for_keys().check(576),
                    "tersekv::through: the head dimension is 576, but at most 512 with groups of 64 rows");
}

}  // namespace through_test
