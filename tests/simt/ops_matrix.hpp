// SPDX-License-Identifier: Apache-2.0
// Fallbacks for the CPU of tersekv/backend/cuda/ptx_matrix.cuh: the last lane to come does the work of the warp.
#pragma once
#include <cstdint>

#include "simt/meeting.hpp"
#include "simt/ops_arithmetic.hpp"
#include "simt/ops_memory.hpp"

namespace simt {

struct mma_operands {
  const std::uint32_t* a;
  const std::uint32_t* b;
  float* d;
};

/// d [16, 8] += a [16, 16] b [16, 8]; `unpack` makes two floats of a word.
template <class Unpack>
void mma(const meeting& m, Unpack unpack) {
  float a[16][16], b[16][8], d[16][8];
  const auto operands = [&](int i) { return static_cast<const mma_operands*>(m.in[static_cast<std::size_t>(i)]); };
  for (int i = 0; i < 32; ++i) {
    const int row = i / 4, column = i % 4 * 2;
    for (int k = 0; k < 4; ++k) {
      const float2 pair = unpack(operands(i)->a[k]);
      a[row + k % 2 * 8][column + k / 2 * 8] = pair.x;
      a[row + k % 2 * 8][column + k / 2 * 8 + 1] = pair.y;
      d[row + k / 2 * 8][column + k % 2] = operands(i)->d[k];
    }
    for (int k = 0; k < 2; ++k) {
      const float2 pair = unpack(operands(i)->b[k]);
      b[column + k * 8][row] = pair.x;
      b[column + k * 8 + 1][row] = pair.y;
    }
  }
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < 16; ++k)
      for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
  for (int i = 0; i < 32; ++i)
    for (int k = 0; k < 4; ++k) operands(i)->d[k] = d[i / 4 + k / 2 * 8][i % 4 * 2 + k % 2];
}

}  // namespace simt

namespace tersekv::detail {

inline void mma_half(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], simt::place where = {}) {
  const simt::mma_operands mine{a, b, d};
  simt::meet(~0u, "mma_half", where, &mine, nullptr, [](simt::meeting& m) { simt::mma(m, half2_unpack); });
}
inline void mma_bfloat16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                         simt::place where = {}) {
  const simt::mma_operands mine{a, b, d};
  simt::meet(~0u, "mma_bfloat16", where, &mine, nullptr, [](simt::meeting& m) { simt::mma(m, bfloat2_unpack); });
}

inline std::uint32_t transpose_8x8(std::uint32_t block, simt::place where = {}) {
  std::uint32_t result = 0;
  simt::meet(~0u, "transpose_8x8", where, &block, &result, [](simt::meeting& m) {
    const auto element = [&](std::size_t row, std::size_t column) {
      const auto word = *static_cast<const std::uint32_t*>(m.in[row * 4 + column / 2]);
      return static_cast<std::uint16_t>(word >> column % 2 * 16);
    };
    for (std::size_t i = 0; i < 32; ++i) {
      const std::size_t row = i / 4, column = i % 4 * 2;
      *static_cast<std::uint32_t*>(m.out[i]) = simt::pair(element(column, row), element(column + 1, row));
    }
  });
  return result;
}

inline void load_blocks(std::uint32_t (&r)[4], const void* row, simt::place where = {}) {
  const uint4 mine = load_shared<uint4>(row, where);
  simt::meet(~0u, "load_blocks", where, &mine, r, [](simt::meeting& m) {
    for (std::size_t i = 0; i < 32; ++i)
      for (std::size_t k = 0; k < 4; ++k)
        static_cast<std::uint32_t*>(m.out[i])[k] = (&static_cast<const uint4*>(m.in[k * 8 + i / 4])->x)[i % 4];
  });
}
inline void load_blocks_transposed(std::uint32_t (&r)[4], const void* row, simt::place where = {}) {
  load_blocks(r, row, where);
  for (std::uint32_t& block : r) block = transpose_8x8(block, where);
}

}  // namespace tersekv::detail
