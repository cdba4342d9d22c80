// SPDX-License-Identifier: Apache-2.0
// Runs the sample kernels and compares with plain loops.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include <tersekv/number.hpp>

#include "simt/buffer.hpp"
#include "simt/samples.cuh"

namespace samples {

/// n small whole numbers, of which every sum is exact; the kernel runs twice, as its counter must come back to zero.
inline bool sum_is_right(int n, unsigned blocks) {
  std::vector<float> in(static_cast<std::size_t>(n));
  float expected = 0;
  for (int i = 0; i < n; ++i) expected += in[static_cast<std::size_t>(i)] = static_cast<float>(i % 13 - 3);
  const simt::buffer<float> numbers(in), partial(blocks, NAN);
  const simt::buffer<unsigned> arrived(1, 0u);
  bool right = true;
  for (int launches = 0; launches < 2; ++launches) {
    const simt::buffer<float> out(1, NAN);
    launch(sum<3>, blocks, sum_threads, sum_layout<3>::bytes, nullptr,
           {numbers.data(), n, partial.data(), arrived.data(), out.data()});
    right = right && out.host()[0] == expected;
  }
  return right;
}

/// 32 * blocks rows of k normal numbers against 8; the tolerance is that of sums in float.
inline bool product_is_right(unsigned blocks, int k) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  const auto halves = [&](std::size_t count) {
    std::vector<std::uint32_t> words(count / 2);
    for (auto& word : words) {
      const std::uint32_t low = tersekv::from_float<tersekv::half>(normal(engine)).bits;
      word = low | std::uint32_t{tersekv::from_float<tersekv::half>(normal(engine)).bits} << 16;
    }
    return words;
  };
  const auto at = [](const std::vector<std::uint32_t>& words, std::size_t i) {
    return tersekv::to_float(tersekv::half{static_cast<std::uint16_t>(words[i / 2] >> i % 2 * 16)});
  };
  const std::size_t rows = std::size_t{blocks} * 32, depth = static_cast<std::size_t>(k);
  const auto a = halves(rows * depth), b = halves(8 * depth);
  const simt::buffer<std::uint32_t> left(a), right(b);
  const simt::buffer<float> c(rows * 8, NAN);
  launch(product<2>, blocks, 64, product_layout<2>::bytes, nullptr, {left.data(), right.data(), c.data(), k});
  const auto got = c.host();
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < 8; ++j) {
      double expected = 0, size = 0;
      for (std::size_t d = 0; d < depth; ++d) {
        const double term = double{at(a, i * depth + d)} * double{at(b, j * depth + d)};
        expected += term;
        size += std::fabs(term);
      }
      if (!(std::fabs(got[i * 8 + j] - expected) <= 1e-6 * size)) return false;
    }
  return true;
}

}  // namespace samples
