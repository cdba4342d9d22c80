// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "catch.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/number.hpp>
#include "simt/buffer.hpp"

using namespace tersekv::detail;

namespace matrix_test {

// a [16, 16] and b [16, 8] of 16-bit numbers, c [16, 8]; fragments are filled by the definition of the PTX manual.
struct mma_arguments {
  const std::uint16_t* a;
  const std::uint16_t* b;
  float* c;
  bool bfloat16;
};

__device__ std::uint32_t two(const std::uint16_t* matrix, unsigned columns, unsigned row0, unsigned column0,
                             unsigned row1, unsigned column1) {
  return matrix[row0 * columns + column0] | std::uint32_t{matrix[row1 * columns + column1]} << 16;
}

__global__ void multiply(mma_arguments p) {
  const unsigned group = threadIdx.x / 4, in_group = threadIdx.x % 4;
  std::uint32_t a[4], b[2];
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = i == 0 || i == 2 ? group : group + 8, column = in_group * 2 + (i < 2 ? 0 : 8);
    a[i] = two(p.a, 16, row, column, row, column + 1);
  }
  for (unsigned i = 0; i < 2; ++i) {
    const unsigned row = in_group * 2 + (i == 0 ? 0 : 8);
    b[i] = two(p.b, 8, row, group, row + 1, group);
  }
  float d[4];
  for (unsigned i = 0; i < 4; ++i) d[i] = p.c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + i % 2];
  if (p.bfloat16)
    mma_bfloat16(d, a, b);
  else
    mma_half(d, a, b);
  for (unsigned i = 0; i < 4; ++i) p.c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + i % 2] = d[i];
}

// Four blocks [4, 8, 8] as they are, and as lanes hold them [word, 32].
struct block_arguments {
  const std::uint16_t* blocks;
  std::uint32_t* loaded;      // [4, 32]
  std::uint32_t* transposed;  // [4, 32], by the load
  std::uint32_t* moved;       // [4, 32], by transpose_8x8
};
using block_layout = shared_layout<region<uint4, 32>>;

__global__ void load_and_transpose(block_arguments p) {
  uint4* rows = block_layout::get<0>();
  const unsigned lane = threadIdx.x;
  store_shared(rows + lane, load(reinterpret_cast<const uint4*>(p.blocks) + lane));
  __syncwarp();
  std::uint32_t r[4], t[4];
  load_blocks(r, rows + lane);
  load_blocks_transposed(t, rows + lane);
  for (unsigned k = 0; k < 4; ++k) {
    p.loaded[k * 32 + lane] = r[k];
    p.transposed[k * 32 + lane] = t[k];
    p.moved[k * 32 + lane] = transpose_8x8(r[k]);
  }
}

TEST_CASE("tensor cores multiply as loops do, half and bfloat16", "[simt]") {
  std::mt19937 engine(3);
  std::normal_distribution<float> normal;
  for (const bool bfloat16 : {false, true}) {
    const auto numbers = [&](std::size_t n) {
      std::vector<std::uint16_t> bits(n);
      for (auto& x : bits) {
        const float number = normal(engine);
        x = bfloat16 ? tersekv::from_float<tersekv::bfloat16>(number).bits
                     : tersekv::from_float<tersekv::half>(number).bits;
      }
      return bits;
    };
    const auto value = [&](std::uint16_t bits) {
      return bfloat16 ? tersekv::to_float(tersekv::bfloat16{bits}) : tersekv::to_float(tersekv::half{bits});
    };
    const auto a = numbers(16 * 16), b = numbers(16 * 8);
    const simt::buffer<std::uint16_t> left(a), right(b);
    const simt::buffer<float> c(16 * 8, 0.5f);
    launch(multiply, 1, 32, 0, nullptr, {left.data(), right.data(), c.data(), bfloat16});
    const auto got = c.host();
    double worst = 0;
    for (std::size_t i = 0; i < 16; ++i)
      for (std::size_t j = 0; j < 8; ++j) {
        double expected = 0.5;
        for (std::size_t k = 0; k < 16; ++k) expected += double{value(a[i * 16 + k])} * double{value(b[k * 8 + j])};
        worst = std::fmax(worst, std::fabs(got[i * 8 + j] - expected));
      }
    CHECK(worst < 1e-5);  // sums of 16 products of size 1 in float
  }
}

TEST_CASE("blocks are loaded as they are and transposed", "[simt]") {
  std::vector<std::uint16_t> blocks(4 * 64);
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::uint16_t>(i * 257);
  const simt::buffer<std::uint16_t> in(blocks);
  const simt::buffer<std::uint32_t> loaded(128, 0u), transposed(128, 0u), moved(128, 0u);
  launch(load_and_transpose, 1, 32, block_layout::bytes, nullptr,
         {in.data(), loaded.data(), transposed.data(), moved.data()});
  std::vector<std::uint32_t> straight(128), turned(128);
  for (std::size_t k = 0; k < 4; ++k)
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const std::size_t row = lane / 4, column = lane % 4 * 2;
      const auto at = [&](std::size_t r, std::size_t c) { return std::uint32_t{blocks[k * 64 + r * 8 + c]}; };
      straight[k * 32 + lane] = at(row, column) | at(row, column + 1) << 16;
      turned[k * 32 + lane] = at(column, row) | at(column + 1, row) << 16;
    }
  CHECK(loaded.host() == straight);
  CHECK(transposed.host() == turned);
  CHECK(moved.host() == turned);
}

}  // namespace matrix_test
