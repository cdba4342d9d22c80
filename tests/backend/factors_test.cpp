// SPDX-License-Identifier: Apache-2.0
// Rows of factors that are written together, and the sums and maxima of many vectors at once, against plain arithmetic.
// Also compiled for each instruction set: CMakeLists.txt.
#include <tersekv/backend/cpu/factors.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels.hpp"

namespace kv = tersekv;
using kv::detail::each;
using simd = kv::detail::simd;

namespace factors_test {

constexpr int W = simd::lanes;

using test::random_numbers;

template <int Units, int R>
void joins_lanes(random_numbers& random) {
  CAPTURE(random.seed, Units, R);
  alignas(64) float x[Units][R][W], sums[Units * R + 1], most[Units * R + 1];
  sums[Units * R] = most[Units * R] = 77;
  for (auto& unit : x)
    for (auto& row : unit)
      for (float& v : row) v = random.between(-5, 3);
  kv::detail::lane_joins<kv::detail::sum_of_lanes, Units, R> adds(sums);
  kv::detail::lane_joins<kv::detail::largest_of_lanes, Units, R> finds(most);
  each<Units>([&](auto u) {
    simd::f32 rows[R];
    each<R>([&](auto r) { rows[r] = simd::load(x[u][r]); });
    adds.template set<u>(rows);
    finds.template set<u>(rows);
  });
  adds.finish();
  finds.finish();
  CHECK(sums[Units * R] == 77);
  CHECK(most[Units * R] == 77);
  double sum_of[R] = {};
  float most_of[R];
  std::fill_n(most_of, R, -1e30f);
  for (int u = 0; u < Units; ++u)
    for (int r = 0; r < R; ++r) {
      double sum = 0;
      for (const float v : x[u][r]) sum += static_cast<double>(v);
      const float top = *std::max_element(x[u][r], x[u][r] + W);
      CAPTURE(u, r);
      CHECK(sums[u * R + r] == Approx(sum).margin(1e-5));
      CHECK(most[u * R + r] == top);
      sum_of[r] += sum;
      most_of[r] = std::max(most_of[r], top);
    }
  kv::detail::join_rows<kv::detail::sum_of_lanes, Units, R>(sums);
  kv::detail::join_rows<kv::detail::largest_of_lanes, Units, R>(most);
  for (int i = 0; i < Units * R; ++i) {
    CAPTURE(i);
    CHECK(sums[i] == Approx(sum_of[i % R]).margin(1e-4));
    CHECK(most[i] == most_of[i % R]);
  }
}

/// Numbers that lie near integers, so that it is known what they round to.
template <class P, int R>
void writes_rows(random_numbers& random, int pieces) {
  const int quads = 8 * pieces, padded = quads + 8;
  CAPTURE(random.seed, P::largest_factor, R, pieces);
  std::vector<std::byte> bytes(P::bytes(padded, R) + 64);
  std::vector<float> x[R];
  std::vector<int> whole[R];
  float times[R];
  for (int r = 0; r < R; ++r) {
    times[r] = random.between(0.5f, 4);
    for (int c = 0; c < 4 * quads; ++c) {
      whole[r].push_back(c % 9 == 0 ? (c % 2 == 0 ? P::largest_factor : -P::largest_factor)
                                    : random.below(2 * P::largest_factor + 1) - P::largest_factor);
      x[r].push_back((static_cast<float>(whole[r].back()) + random.between(-0.4f, 0.4f)) / times[r]);
    }
  }
  const kv::detail::factor_rows<P> to{bytes.data(), padded};
  kv::detail::written_rows<P, R> rows;
  const auto write = [&](auto begins, int piece) {
    rows.write(
        begins, to, 8 * piece, [&](int r, int i) { return simd::load(x[r].data() + 32 * piece + i * W); },
        [&](int r) { return simd::set(times[r]); });
  };
  write(std::true_type{}, 0);
  for (int piece = 1; piece < pieces; ++piece) write(std::false_type{}, piece);
  float sums[R];
  kv::detail::lane_joins<kv::detail::sum_of_lanes, 1, R> sum(sums);
  rows.template store<0>(sum);
  sum.finish();
  std::vector<std::uint8_t> u(4 * static_cast<std::size_t>(W));
  for (int r = 0; r < R; ++r) {
    double want = 0;
    for (const int f : whole[r]) want += f;
    CHECK(sums[r] == Approx(want).margin(1e-3).epsilon(1e-6));
    for (int q = 0; q < quads; ++q) {
      for (auto& code : u) code = static_cast<std::uint8_t>(random.below(16));
      const auto factor = P::load(to.row(R, r, q), P::row_bytes(padded));
      float got[W];
      simd::store(got, P::value(P::product(simd::load_raw(reinterpret_cast<const std::byte*>(u.data())), factor)));
      for (int i = 0; i < W; ++i) {
        int product = 0;
        for (int k = 0; k < 4; ++k)
          product +=
              (u[static_cast<std::size_t>(4 * i + k)] - simd::origin) * whole[r][static_cast<std::size_t>(4 * q + k)];
        CAPTURE(r, q, i);
        REQUIRE(got[i] == static_cast<float>(product));
      }
    }
  }
}

TEST_CASE("lanes of many vectors are joined", "[backend]") {
  random_numbers random;
  each<3>([&](auto i) {
    joins_lanes<1 << i, 1>(random), joins_lanes<1 << i, 2>(random);
    joins_lanes<1 << i, 4>(random), joins_lanes<1 << i, 8>(random);
  });
}

TEST_CASE("rows of factors are written together, with their sums", "[backend]") {
  random_numbers random;
  for (const int pieces : {1, 2, 4}) {
    writes_rows<simd::narrow, 1>(random, pieces), writes_rows<simd::narrow, 2>(random, pieces);
    writes_rows<simd::narrow, 4>(random, pieces), writes_rows<simd::narrow, 8>(random, pieces);
    writes_rows<simd::wide, 1>(random, pieces), writes_rows<simd::wide, 4>(random, pieces);
    writes_rows<simd::wide, 8>(random, pieces);
  }
}

}  // namespace factors_test
