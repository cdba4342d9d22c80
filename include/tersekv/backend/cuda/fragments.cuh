// SPDX-License-Identifier: Apache-2.0
// Packed codes as operands of matrix products. Nothing is moved between lanes: a word of a block of quads holds what
// one lane of mma_half wants, and the order of what is summed over (channels of keys, rows of values) is free.
//
// A warp works on pieces of 32 rows. With row = lane / 4 and pair = lane % 4, lane `row` of the four 8 x 8 blocks of a
// piece stands for the piece's rows first_row + {0, 1, 4, 5}; transposed, the blocks of weights then hold the rows
// 8 pair + {0, 2}, {1, 3}, {4, 6}, {5, 7}, which are the halves of a word of values.
#pragma once
#include <cstddef>
#include <cstdint>

#include <tersekv/backend/cuda/device.cuh>

namespace tersekv::detail {

struct fragment_lane {
  int row, pair;
  __device__ explicit fragment_lane(int lane) : row(lane / 4), pair(lane % 4) {}
  __device__ int lane() const { return 4 * row + pair; }
  /// Of the piece's rows that this lane's scores belong to; they are first_row() + offset(0 .. 3).
  __device__ int first_row() const { return 8 * (row / 2) + 2 * (row % 2); }
  __device__ static constexpr int offset(int block) { return block + block / 2 * 2; }
};

/// Where 16-byte chunk `i` of a region stands in shared memory: accesses to blocks of 4 and 8 bits, keys and values,
/// then meet every bank once; those of 2 bits do so anyway. Exchanges chunks within 128 bytes.
template <int Bits>
__device__ __forceinline__ int chunk_place(int i) {
  return Bits == 2 ? i : i ^ ((i >> 3 & 1) * 3) ^ ((i >> 4 & 1) * 4);
}
/// The same for constant + lane where the constant is a multiple of 4 and lane < 4.
template <int Bits>
__device__ __forceinline__ int chunk_place(int constant, int lane) {
  return Bits == 2 ? constant + lane : (constant ^ ((constant >> 4 & 1) * 4)) + (lane ^ ((constant >> 3 & 1) * 3));
}

/// Codes of one lane's words as pairs of halves, exact: u - centre, or the level that u stands for.
/// f[0], f[1]: codes (0, 2), (1, 3) of the first quad; f[2], f[3]: those of the second.
template <class Grid>
struct code_words {
  static constexpr int bits = Grid::bits;
  static constexpr bool has_levels = requires { Grid::table; };
  static constexpr int words = bits == 8 ? 2 : 1;  // that hold two quads
  /// x' = step * (u - centre) + rest, rest = low + step * (centre - offset). Centred where codes are large: weights are
  /// rounded, and meet the codes.
  static constexpr int centre = has_levels ? 0 : Grid::offset != 0 ? Grid::offset : bits == 8 ? 128 : 0;
  static constexpr std::uint32_t centre_pair = centre == 128 ? 0x58005800u : 0;  // of halves; needed for 8 bits
  static constexpr bool has_rest = Grid::numbers > 1;
  static_assert(has_rest || centre == Grid::offset);

  /// part: which two of the four quads of a word are meant, 0 or 1; of 2 bits only.
  __device__ explicit code_words(int part) {
    TERSEKV_UNROLL
    for (int quad = 0; quad < 2; ++quad) {
      const int low = bits * ((bits == 2 ? 2 * part : 0) + quad);  // where the codes stand in their bytes
      mask_[quad] = ((1u << bits) - 1) * 0x00010001u << low;
      magic_[quad] = twice(0x6400u - (static_cast<unsigned>(low) << 10));  // 2^(10 - low): a code's unit is 1
      minus_[quad] = magic_[quad] + twice(static_cast<unsigned>(centre) << low);
    }
  }

  __device__ __forceinline__ void unpack(const std::uint32_t (&w)[words], std::uint32_t (&f)[4]) const {
    if constexpr (bits == 8) {
      TERSEKV_UNROLL
      for (int quad = 0; quad < 2; ++quad) {
        f[2 * quad] = half2_sub(byte_perm<0x4240>(w[quad], 0x64646464u), twice(0x6400u + centre));
        f[2 * quad + 1] = half2_sub(byte_perm<0x4341>(w[quad], 0x64646464u), twice(0x6400u + centre));
      }
    } else if constexpr (has_levels) {
      unpack_levels(w[0], f);
    } else {
      const std::uint32_t odd = w[0] >> 8;
      TERSEKV_UNROLL
      for (int quad = 0; quad < 2; ++quad) {
        f[2 * quad] = half2_sub(insert(w[0], quad), minus_[quad]);
        f[2 * quad + 1] = half2_sub(insert(odd, quad), minus_[quad]);
      }
    }
  }

 private:
  TERSEKV_HD static constexpr std::uint32_t twice(unsigned half) { return half | half << 16; }
  __device__ __forceinline__ std::uint32_t insert(std::uint32_t w, int quad) const {
    return lop3<(0xf0 & 0xcc) | 0xaa>(w, mask_[quad], magic_[quad]);
  }

  /// Four levels, 128 added to each, stand in a word.
  static constexpr std::uint32_t levels(std::size_t first) {
    std::uint32_t word = 0;
    if constexpr (has_levels)
      for (std::size_t i = 0; i < 4; ++i) word |= static_cast<std::uint32_t>(Grid::table[first + i] + 128) << (8 * i);
    return word;
  }
  static constexpr std::uint32_t levels0 = levels(0), levels4 = levels(4), levels8 = levels(8), levels12 = levels(12);
  /// Levels of the codes in the four lowest nibbles, one in a byte; `high` chooses between the halves of the table.
  __device__ static std::uint32_t look_up(std::uint32_t nibbles, std::uint32_t high) {
    return byte_select(byte_select(levels0, levels4, nibbles), byte_select(levels8, levels12, nibbles), high);
  }
  __device__ static void unpack_levels(std::uint32_t w, std::uint32_t (&f)[4]) {
    const std::uint32_t nibbles = w & 0x77777777u, high = (w >> 1 & 0x44444444u) | 0x32103210u;
    const std::uint32_t a = look_up(nibbles, high), b = look_up(nibbles >> 16, high >> 16);
    const std::uint32_t quad[2] = {byte_perm<0x6420>(a, b), byte_perm<0x7531>(a, b)};
    TERSEKV_UNROLL
    for (int k = 0; k < 2; ++k) {
      f[2 * k] = half2_sub(byte_perm<0x4240>(quad[k], 0x64646464u), twice(0x6480u));
      f[2 * k + 1] = half2_sub(byte_perm<0x4341>(quad[k], 0x64646464u), twice(0x6480u));
    }
  }

  std::uint32_t mask_[2], magic_[2], minus_[2];
};

}  // namespace tersekv::detail
