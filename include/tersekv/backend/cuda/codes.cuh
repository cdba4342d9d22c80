// SPDX-License-Identifier: Apache-2.0
// How the threads of a block write codes to a tile: words are shared between rows or channels, so one thread owns one.
//
// Read before: codec/layout.hpp. Nothing here waits: callers put barriers around.
#pragma once
#include <cstddef>
#include <cstdint>

#include <tersekv/backend/cuda/device.cuh>
#include <tersekv/codec/layout.hpp>

namespace tersekv::detail {

/// f(i) for i < n, spread over the threads of the block.
template <class F>
__device__ __forceinline__ void each_thread(int n, F f) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) f(i);
}
/// f(i) for i < n, spread over the warps of the block: all lanes of a warp get the same i.
template <class F>
__device__ __forceinline__ void each_warp(int n, F f) {
  for (int i = static_cast<int>(threadIdx.x / 32); i < n; i += static_cast<int>(blockDim.x / 32)) f(i);
}
__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x % 32); }

__device__ __forceinline__ std::uint32_t* word_at(std::byte* p) { return reinterpret_cast<std::uint32_t*>(p); }

/// The words of a plane of quads: bits Low .. Low + Width of the codes i = first .. last, code(i), of 32 / Width.
template <int Low, int Width, class Code>
__device__ __forceinline__ std::uint32_t quad_word(int first, int last, Code code) {
  std::uint32_t word = 0;
  TERSEKV_UNROLL
  for (int i = 0; i < 32 / Width; ++i)
    if (i >= first && i < last) word |= (code(i) >> Low & ((1u << Width) - 1)) << (i % 4 * 8 + i / 4 * Width);
  return word;
}
/// Which bits of such a word belong to the codes first .. last.
template <int Width>
__device__ __forceinline__ std::uint32_t quad_mask(int first, int last) {
  return quad_word<0, Width>(first, last, [](int) { return ~0u; });
}
/// Unit `u`, Unit bits, of the stream of n codes of Bits bits each.
template <int Bits, int Unit, class Code>
__device__ __forceinline__ std::uint32_t stream_unit(int u, int n, Code code) {
  std::uint32_t bits = 0;
  for (int i = u * Unit / Bits; i < n && i * Bits < (u + 1) * Unit; ++i) {
    const int shift = i * Bits - u * Unit;
    bits |= shift >= 0 ? code(i) << shift : code(i) >> -shift;
  }
  return bits;
}

/// The codes of rows first .. first + count of a tile: code(row, channel). Codes of other rows stay.
template <class Layout, int Bits>
struct code_writer;

template <int Bits>
struct code_writer<layout::rows, Bits> {
  template <class Code>
  __device__ static void write(std::byte* plane, int dim, int first, int count, Code code) {
    const auto bytes = static_cast<int>(packed_bytes(dim, Bits));
    each_thread(count * bytes, [&](int i) {
      const int row = first + i / bytes;
      plane[static_cast<std::size_t>(row) * static_cast<std::size_t>(bytes) + static_cast<std::size_t>(i % bytes)] =
          static_cast<std::byte>(stream_unit<Bits, 8>(i % bytes, dim, [&](int c) { return code(row, c); }) & 0xffu);
    });
  }
};

template <int Bits>
struct code_writer<layout::token_quads, Bits> {
  template <int Low = 0, class Code>
  __device__ static void write(std::byte* tile, int dim, int first, int count, Code code) {
    if constexpr (Low < Bits) {
      using plane = code_plane<layout::token_quads, Bits>;
      constexpr int width = quad_block<Bits>::width(Low), per = 32 / width;
      const int depth = plane::depth(dim);
      each_thread(count * (depth / per),
                  [&](int i) {  // neighbouring threads have neighbouring rows: words side by side
                    const int row = first + i % count, word = i / count;
                    *word_at(tile + plane::lane(dim, row) + quad_block<Bits>::plane(Low, depth) +
                             static_cast<std::size_t>(word * plane::stride)) =
                        quad_word<Low, width>(0, dim - word * per, [&](int k) { return code(row, word * per + k); });
                  });
      write<Low + width>(tile, dim, first, count, code);
    }
  }
};

template <int Bits>
struct code_writer<layout::channel_quads, Bits> {
  template <int Low = 0, class Code>
  __device__ static void write(std::byte* tile, int dim, int first, int count, Code code) {
    if constexpr (Low < Bits) {
      using plane = code_plane<layout::channel_quads, Bits>;
      constexpr int width = quad_block<Bits>::width(Low), per = 32 / width;  // rows of a word
      const int begin = first / per, words = (first + count + per - 1) / per - begin;
      each_thread(dim * words, [&](int i) {
        const int channel = i % dim, row = (begin + i / dim) * per;
        std::uint32_t* word = word_at(tile + plane::lane(dim, row, channel) + quad_block<Bits>::plane(Low, value_rows) +
                                      static_cast<std::size_t>(row % value_rows / per * plane::stride));
        const int from = first - row, to = first + count - row;
        const std::uint32_t mine = quad_word<Low, width>(from, to, [&](int k) { return code(row + k, channel); });
        const bool whole = from <= 0 && to >= per;
        *word = whole ? mine : (*word & ~quad_mask<width>(from, to)) | mine;
      });
      write<Low + width>(tile, dim, first, count, code);
    }
  }
};

}  // namespace tersekv::detail
