// SPDX-License-Identifier: Apache-2.0
// Device operations: matrices spread over a warp. All 32 lanes call them. With row = lane / 4 and pair = lane % 4, an
// 8 x 8 block of 16-bit numbers has the elements (row, 2 pair) and (row, 2 pair + 1) in one word of the lane.
#pragma once
#include <cstdint>

#include <tersekv/backend/cuda/ptx_memory.cuh>

namespace tersekv::detail {

#define TERSEKV_MMA(name, type)                                                                                \
  __device__ __forceinline__ void name(float(&d)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2]) { \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                                        \
                 ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "                                                \
                 "{%0,%1,%2,%3};"                                                                              \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                          \
  }
/// d [16, 8] += a [16, 16] b [16, 8], sums in float.
///   a  blocks of 8 x 8 in the order (rows 0..7, columns 0..7), (8.., 0..7), (0..7, 8..), (8.., 8..)
///   b  the two blocks of its transpose [8, 16]: rows are columns of b
///   d  (row, 2 pair), (row, 2 pair + 1), (row + 8, 2 pair), (row + 8, 2 pair + 1)
TERSEKV_MMA(mma_half, "f16")
TERSEKV_MMA(mma_bfloat16, "bf16")
#undef TERSEKV_MMA

/// The transpose of an 8 x 8 block of 16-bit numbers.
__device__ __forceinline__ std::uint32_t transpose_8x8(std::uint32_t block) {
  std::uint32_t r;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(block));
  return r;
}

/// Four 8 x 8 blocks from shared memory: lane i names row i % 8 of block i / 8, 16 bytes, aligned.
__device__ __forceinline__ void load_blocks(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/// The same, each block transposed on the way.
__device__ __forceinline__ void load_blocks_transposed(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

}  // namespace tersekv::detail
