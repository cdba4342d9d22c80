// SPDX-License-Identifier: Apache-2.0
// Pieces of 32 packed rows in shared memory: which bytes of a page they are, and where a lane finds its words.
//
// Read before: fragments.cuh; codec/layout.hpp.
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>

#include <tersekv/backend/cuda/fragments.cuh>
#include <tersekv/codec/grouped.hpp>
#include <tersekv/codec/kivi.hpp>

namespace tersekv::detail {

/// What kernels on codes take: planes of 2, 4 or 8 bits, groups that are whole heads or multiples of 32 channels.
template <class Format>
struct packed_traits {
  static constexpr bool keys = false, values = false, by_channel = false;
};

template <int Bits>
inline constexpr bool one_plane = Bits == 2 || Bits == 4 || Bits == 8;

template <class Grid, int Group, class Reopen, class Layout>
struct packed_traits<grouped_format<Grid, Group, Reopen, Layout>> {
  static constexpr bool fits = one_plane<Grid::bits> && Group % 32 == 0;
  static constexpr bool keys = fits && std::same_as<Layout, layout::token_quads>;
  static constexpr bool values = fits && std::same_as<Layout, layout::channel_quads>;
  static constexpr bool by_channel = false;
  using grid = Grid;
  template <int D>
  static constexpr int group = Group == 0 || Group > D ? D : Group;
};

template <class Grid, int Span, class Reopen, class Layout>
struct packed_traits<channel_format<Grid, Span, Reopen, Layout>> {
  static constexpr bool keys = one_plane<Grid::bits> && Span % 32 == 0 && std::same_as<Layout, layout::token_quads>;
  static constexpr bool values = false, by_channel = true;
  using grid = Grid;
  static constexpr int span = Span;
};

/// 32 rows of Format, D channels each, of a page of PageRows rows. Codes, then numbers; both in chunks of 16 bytes.
template <class Format, int D, int PageRows>
struct packed_tile {
  using traits = packed_traits<Format>;
  using grid = typename traits::grid;
  static constexpr int bits = grid::bits;
  static constexpr int codes = 2 * D * bits / 8;  // chunks
  static_assert(D % 32 == 0);

  static constexpr int planes() {  // of 64 bytes: rows; by channel: of 2 D bytes
    if constexpr (traits::by_channel)
      return 2;
    else
      return grid::numbers * (D / traits::template group<D>);
  }
  static constexpr int plane = traits::by_channel ? D / 8 : 4;  // chunks
  static constexpr int numbers = planes() * plane;
  static constexpr int chunks = codes + numbers;

  /// Bytes of a whole tile, to the next chunk.
  static constexpr int page_bytes = [] {
    if constexpr (traits::by_channel)
      return PageRows / 32 * codes * 16 + planes() * PageRows / traits::span * plane * 16;
    else
      return PageRows / 32 * chunks * 16;
  }();

  /// Byte of the page's tile where chunk i of a piece lies.
  __device__ __forceinline__ static int source(int i, int piece) {
    if constexpr (page_bytes == chunks * 16) {
      return 16 * i;
    } else {
      constexpr int all_codes = PageRows / 32 * codes * 16;
      if (i < codes) return 16 * (piece * codes + i);
      const int which = (i - codes) / plane, part = (i - codes) % plane;
      if constexpr (traits::by_channel)
        return all_codes + 16 * ((which * (PageRows / traits::span) + piece * 32 / traits::span) * plane + part);
      else
        return all_codes + 16 * ((which * (PageRows / 32) + piece) * plane + part);
    }
  }

  /// Starts the copies of a piece; 32 lanes.
  __device__ __forceinline__ static void fetch(std::byte* to, const std::byte* tile, int piece, int, int lane) {
    std::byte* mine = to + 16 * chunk_place<bits>(lane);
    TERSEKV_UNROLL
    for (int k = 0; k < chunks; k += 32)
      if (k + 32 <= chunks || lane < chunks - k) copy_async<16>(mine + 16 * k, tile + source(k + lane, piece));
  }
};

/// The numbers of a lane's four rows in plane `which` of a tile of planes of rows, as two pairs.
template <class Tile>
__device__ __forceinline__ uint2 row_numbers(const std::byte* tile, fragment_lane at, int which) {
  const std::byte* from =
      tile + 16 * chunk_place<Tile::bits>(Tile::codes + Tile::plane * which, at.row / 2) + 4 * (at.row % 2);
  return {load_shared<std::uint32_t>(from), load_shared<std::uint32_t>(from + 8)};
}
__device__ __forceinline__ void spread(uint2 pairs, float (&x)[4]) {
  const float2 a = half2_unpack(pairs.x), b = half2_unpack(pairs.y);
  x[0] = a.x, x[1] = a.y, x[2] = b.x, x[3] = b.y;
}

/// Codes of keys: lanes are rows. For every 32 channels two products, and in each a lane has the channels
/// first_channel + {0, 2} and {1, 3}.
template <class Tile>
struct key_codes {
  using words = code_words<typename Tile::grid>;
  static constexpr int bits = Tile::bits;
  static constexpr int step = bits == 8 ? 32 : bits == 4 ? 16 : 8;  // chunks from 32 channels to the next

  __device__ key_codes(fragment_lane at) : unpack_(at.pair / 2) {
    const int unit = bits == 2 ? at.pair % 2 : at.pair;
    const int first = at.row / 4 * (Tile::codes / 2) + 4 * unit + at.row / 2 % 2 * 2;
    TERSEKV_UNROLL
    for (int odd = 0; odd < 2; ++odd) TERSEKV_UNROLL
    for (int half = 0; half < 2; ++half)
      at_[odd][half] = 16 * (chunk_place<bits>(first + half + 16 * odd) - 16 * odd) + at.row % 2 * 8;
  }
  __device__ static int first_channel(fragment_lane at, int j, int product) {
    if constexpr (bits == 8) return 32 * j + 16 * product + 4 * at.pair;
    if constexpr (bits == 4) return 32 * j + 8 * at.pair + 4 * product;
    return 32 * j + 16 * (at.pair % 2) + 8 * (at.pair / 2) + 4 * product;
  }
  /// Channels 32 j .. of rows 16 half ..: the operands of both products.
  __device__ __forceinline__ void load(const std::byte* tile, int j, int half, std::uint32_t (&a)[2][4]) const {
    std::uint32_t low[words::words], high[words::words], f[4], g[4];
    TERSEKV_UNROLL
    for (int k = 0; k < words::words; ++k) {
      const int chunk = step * j + 16 * k;
      const auto pair = load_shared<uint2>(tile + 16 * chunk + at_[chunk / 16 % 2][half]);
      low[k] = pair.x, high[k] = pair.y;
    }
    unpack_.unpack(low, f);
    unpack_.unpack(high, g);
    TERSEKV_UNROLL
    for (int product = 0; product < 2; ++product) {
      a[product][0] = f[2 * product], a[product][1] = g[2 * product];
      a[product][2] = f[2 * product + 1], a[product][3] = g[2 * product + 1];
    }
  }

 private:
  words unpack_;
  int at_[2][2];  // bytes; of chunks in even and odd sixteens, of both halves
};

/// Codes of values: lanes are channels. Of every 32 channels, a lane of row g has 4 g + {0, 1, 2, 3}; rows run over the
/// pieces of words in the order of weights that were transposed.
template <class Tile>
struct value_codes {
  using words = code_words<typename Tile::grid>;
  static constexpr int bits = Tile::bits;
  static constexpr int step = 8 * bits;  // chunks from 32 channels to the next

  __device__ value_codes(fragment_lane at) : unpack_(at.pair % 2) {
    TERSEKV_UNROLL
    for (int k = 0; k < words::words; ++k) {
      const int unit = bits == 8 ? 2 * at.pair + k : bits == 4 ? at.pair : at.pair / 2;
      at_[k] = 16 * chunk_place<bits>(at.row / 4 * (step / 2) + 4 * unit + at.row % 4);
    }
  }
  /// Channels 32 t + 4 row + 2 half + {0, 1}, as rows g and g + 8 of the operand: a[quad] multiplies the weights of
  /// blocks 2 quad and 2 quad + 1.
  __device__ __forceinline__ void load(const std::byte* tile, int t, std::uint32_t (&a)[2][2][4]) const {
    uint4 w[words::words];
    TERSEKV_UNROLL
    for (int k = 0; k < words::words; ++k) w[k] = load_shared<uint4>(tile + 16 * step * t + at_[k]);
    std::uint32_t f[4][4];
    TERSEKV_UNROLL
    for (int channel = 0; channel < 4; ++channel) {
      std::uint32_t word[words::words];
      TERSEKV_UNROLL
      for (int k = 0; k < words::words; ++k)
        word[k] = channel == 0 ? w[k].x : channel == 1 ? w[k].y : channel == 2 ? w[k].z : w[k].w;
      unpack_.unpack(word, f[channel]);
    }
    TERSEKV_UNROLL
    for (int half = 0; half < 2; ++half) TERSEKV_UNROLL
    for (int quad = 0; quad < 2; ++quad) {
      a[half][quad][0] = f[2 * half][2 * quad], a[half][quad][1] = f[2 * half + 1][2 * quad];
      a[half][quad][2] = f[2 * half][2 * quad + 1], a[half][quad][3] = f[2 * half + 1][2 * quad + 1];
    }
  }

 private:
  words unpack_;
  int at_[words::words];  // bytes
};

}  // namespace tersekv::detail
