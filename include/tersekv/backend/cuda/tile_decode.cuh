// SPDX-License-Identifier: Apache-2.0
// Rows of any format -> tiles of halves in shared memory, by a whole block of threads. What is too large for a half
// becomes 65504.
//
//   keys    [rows, stride]      a row of numbers per row
//   values  [channels, stride]  transposed: a row of numbers per channel; rows that do not exist are zero
//
// Packed rows come 32 at a time (a chunk, always of one page). Formats in quads are decoded by words: a word holds
// codes of one lane, neighbours in channels (keys) or in rows (values), which is how the tiles lie too.
//
// Read before: codec/layout.hpp.
#pragma once
#include <tersekv/backend/cuda/elements.cuh>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/grouped.hpp>
#include <tersekv/codec/kivi.hpp>

namespace tersekv::detail {

inline constexpr int chunk_rows = 32;

__device__ __forceinline__ std::uint16_t half_saturated(float x) { return from_float<half>(x).bits; }
__device__ __forceinline__ std::uint32_t both(std::uint16_t x) { return x * 0x00010001u; }
__device__ __forceinline__ std::uint16_t load_bits(const std::byte* p) {
  return load(reinterpret_cast<const std::uint16_t*>(p));
}
__device__ __forceinline__ std::uint32_t load_word(const std::byte* p) {
  return load(reinterpret_cast<const std::uint32_t*>(p));
}

/// Codes first .. first + 4 N of the lane whose words begin at `lane`, four to a word of `quads`, which are zero
/// before.
template <int Bits, int Low = 0, int N>
__device__ __forceinline__ void add_quads(const std::byte* lane, int depth, int first, std::uint32_t (&quads)[N]) {
  if constexpr (Low < Bits) {
    constexpr int width = quad_block<Bits>::width(Low), per = 8 / width;  // quads of a word
    const std::byte* word = lane + quad_block<Bits>::plane(Low, depth) + first / (4 * per) * 4 * block_lanes;
    TERSEKV_UNROLL
    for (int w = 0; w < N / per; ++w) {
      const std::uint32_t bits = load_word(word + w * 4 * block_lanes);
      TERSEKV_UNROLL
      for (int k = 0; k < per; ++k)
        quads[w * per + k] |= (bits >> (width * k) & ((1u << width) - 1) * 0x01010101u) << Low;
    }
    add_quads<Bits, Low + width>(lane, depth, first, quads);
  }
}

/// Two of four codes as halves, in units of the step: 0 = the lower two, 1 = the upper two.
template <class Grid, int Which>
__device__ __forceinline__ std::uint32_t levels_of(std::uint32_t quad) {
  if constexpr (requires { Grid::table; }) {
    const std::uint32_t two = quad >> (16 * Which);
    return half2_pack(Grid::value(two & 0xffu, 1.0f, 0.0f), Grid::value(two >> 8 & 0xffu, 1.0f, 0.0f));
  } else {  // 0x6400 + u is 1024 + u
    const std::uint32_t biased = byte_perm < Which == 0 ? 0x4140u : 0x4342u > (quad, 0x64646464u);
    return half2_sub(biased, (0x6400u + static_cast<std::uint32_t>(Grid::offset)) * 0x00010001u);
  }
}
template <class Grid>
__device__ __forceinline__ std::uint32_t scaled(std::uint32_t levels, std::uint32_t step, std::uint32_t low) {
  return half2_finite(Grid::numbers > 1 ? half2_fma(levels, step, low) : half2_mul(levels, step));
}

/// Eight numbers from two quads. steps(k), lows(k): of the k-th pair.
template <class Grid, class Steps, class Lows>
__device__ __forceinline__ uint4 eight_numbers(std::uint32_t first, std::uint32_t second, Steps steps, Lows lows) {
  return make_uint4(scaled<Grid>(levels_of<Grid, 0>(first), steps(0), lows(0)),
                    scaled<Grid>(levels_of<Grid, 1>(first), steps(1), lows(1)),
                    scaled<Grid>(levels_of<Grid, 0>(second), steps(2), lows(2)),
                    scaled<Grid>(levels_of<Grid, 1>(second), steps(3), lows(3)));
}

// ----------------------------------------------------------------------------------------------------- number by
// number

/// Any format. `first` is the row of the tile where the chunk begins; of its rows, the first `valid` exist.
template <class Format>
struct plain_decoder {
  __device__ static void keys(const Format& f, const std::byte* tile, int rows, int dim, int first, std::uint16_t* to,
                              int stride) {
    for (int i = static_cast<int>(threadIdx.x); i < chunk_rows * dim; i += static_cast<int>(blockDim.x)) {
      const int row = i % chunk_rows, c = i / chunk_rows;
      to[row * stride + c] = half_saturated(f.value(tile, rows, dim, first + row, c));
    }
  }
  __device__ static void values(const Format& f, const std::byte* tile, int rows, int dim, int first, int valid,
                                std::uint16_t* to, int stride) {
    for (int i = static_cast<int>(threadIdx.x); i < chunk_rows * dim; i += static_cast<int>(blockDim.x)) {
      const int row = i / dim, c = i % dim;
      to[c * stride + row] =
          row < valid ? half_saturated(f.value(tile, rows, dim, first + row, c)) : static_cast<std::uint16_t>(0);
    }
  }
};

/// The fast way to decode a format; fits(dim): where it works.
template <class Format>
struct chunk_decoder : plain_decoder<Format> {
  __device__ static bool fits(int) { return true; }
};

// ------------------------------------------------------------------------------------------------------------- by
// words

/// f(lane, first, quads): the words of lane (0 .. 15 of block b) `lane`, and codes first .. first + 4 N of it.
/// Neighbouring threads take neighbouring words.
template <int Bits, class F>
__device__ __forceinline__ void each_item(const std::byte* codes, int blocks, int depth, F f) {
  using block = quad_block<Bits>;
  constexpr int unit = block::depth_unit;
  const int units = depth / unit;
  for (int i = static_cast<int>(threadIdx.x); i < blocks * units * block_lanes; i += static_cast<int>(blockDim.x)) {
    const int lane = i % block_lanes, first = i / block_lanes % units * unit, b = i / (block_lanes * units);
    std::uint32_t quads[unit / 4] = {};
    add_quads<Bits>(codes + static_cast<std::size_t>(b) * block::bytes(depth) + lane * 4, depth, first, quads);
    f(b * block_lanes + lane, first, quads);
  }
}

/// Keys whose steps belong to a row and a group of channels.
template <class Grid, int Group, class Reopen>
struct chunk_decoder<grouped_format<Grid, Group, Reopen, layout::token_quads>> {
  using format = grouped_format<Grid, Group, Reopen, layout::token_quads>;
  static constexpr int unit = quad_block<Grid::bits>::depth_unit;

  __device__ static bool fits(int dim) { return dim % 8 == 0 && format::group(dim) % 8 == 0; }
  __device__ static void keys(const format&, const std::byte* tile, int rows, int dim, int first, std::uint16_t* to,
                              int stride) {
    const std::byte *steps = tile + format::steps_at(rows, dim), *lows = tile + format::lows_at(rows, dim);
    const int depth = format::codes::depth(dim), size = format::group(dim);
    const std::byte* codes = tile + format::codes::bytes(first, dim);
    each_item<Grid::bits>(codes, chunk_rows / block_lanes, depth, [&](int row, int channel, auto& quads) {
      TERSEKV_UNROLL
      for (int k = 0; k < unit; k += 8) {
        if (channel + k >= dim) break;
        const std::size_t at = 2 * static_cast<std::size_t>((channel + k) / size * rows + first + row);
        const std::uint32_t step = both(load_bits(steps + at)),
                            low = Grid::numbers > 1 ? both(load_bits(lows + at)) : 0;
        store_shared(to + row * stride + channel + k,
                     eight_numbers<Grid>(
                         quads[k / 4], quads[k / 4 + 1], [&](int) { return step; }, [&](int) { return low; }));
      }
    });
  }
};

/// Keys whose steps belong to a channel and a span of rows.
template <class Grid, int Span, class Reopen>
struct chunk_decoder<channel_format<Grid, Span, Reopen, layout::token_quads>> {
  using format = channel_format<Grid, Span, Reopen, layout::token_quads>;
  using plane = code_plane<layout::token_quads, Grid::bits>;
  static constexpr int unit = quad_block<Grid::bits>::depth_unit;

  __device__ static bool fits(int dim) { return dim % 8 == 0; }
  __device__ static void keys(const format&, const std::byte* tile, int rows, int dim, int first, std::uint16_t* to,
                              int stride) {
    const std::byte *steps = tile + format::steps_at(rows, dim), *lows = tile + format::lows_at(rows, dim);
    const std::byte* codes = tile + plane::bytes(first, dim);
    each_item<Grid::bits>(codes, chunk_rows / block_lanes, plane::depth(dim), [&](int row, int channel, auto& quads) {
      TERSEKV_UNROLL
      for (int k = 0; k < unit; k += 8) {
        if (channel + k >= dim) break;
        const std::size_t at = 2 * static_cast<std::size_t>((first + row) / Span * dim + channel + k);
        store_shared(to + row * stride + channel + k,
                     eight_numbers<Grid>(
                         quads[k / 4], quads[k / 4 + 1], [&](int i) { return load_word(steps + at + 4 * i); },
                         [&](int i) { return load_word(lows + at + 4 * i); }));
      }
    });
  }
};

/// Values: codes of a channel run over rows, and so do the steps of its group.
template <class Grid, int Group, class Reopen>
struct chunk_decoder<grouped_format<Grid, Group, Reopen, layout::channel_quads>> {
  using format = grouped_format<Grid, Group, Reopen, layout::channel_quads>;
  static constexpr int unit = quad_block<Grid::bits>::depth_unit;
  static_assert(chunk_rows == value_rows);

  __device__ static bool fits(int) { return true; }
  __device__ static void values(const format&, const std::byte* tile, int rows, int dim, int first, int valid,
                                std::uint16_t* to, int stride) {
    const std::byte *steps = tile + format::steps_at(rows, dim), *lows = tile + format::lows_at(rows, dim);
    const std::byte* codes = tile + format::codes::bytes(first, dim);
    const int size = format::group(dim);
    each_item<Grid::bits>(codes, format::codes::blocks(dim), value_rows, [&](int channel, int row, auto& quads) {
      if (channel >= dim) return;
      TERSEKV_UNROLL
      for (int k = 0; k < unit; k += 8) {
        const std::size_t at = 2 * static_cast<std::size_t>(channel / size * rows + first + row + k);
        uint4 x = eight_numbers<Grid>(
            quads[k / 4], quads[k / 4 + 1], [&](int i) { return load_word(steps + at + 4 * i); },
            [&](int i) { return Grid::numbers > 1 ? load_word(lows + at + 4 * i) : 0u; });
        const int left = valid - row - k;  // of these eight rows, as many exist
        const auto kept = [left](int i) { return left > i + 1 ? ~0u : left > i ? 0xffffu : 0u; };
        if (left < 8) x = make_uint4(x.x & kept(0), x.y & kept(2), x.z & kept(4), x.w & kept(6));
        store_shared(to + channel * stride + row + k, x);
      }
    });
  }
};

// ------------------------------------------------------------------------------------------------------ 16-bit numbers

/// Whether rows can be read in pieces of `bytes`.
__device__ __forceinline__ bool in_pieces(const device_array& a, std::int64_t first, int dim, int bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(a.data) + static_cast<std::uintptr_t>(first * 2);
  return a.type != element::f32 &&
         (address | static_cast<std::uintptr_t>(a.row_stride * 2) | static_cast<std::uintptr_t>(dim * 2)) %
                 static_cast<unsigned>(bytes) ==
             0;
}

/// Rows first_row .. + count of one head as keys.
__device__ inline void number_keys(const device_array& a, int head, int first_row, int count, int dim,
                                   std::uint16_t* to, int stride) {
  const std::int64_t first = a.at(first_row, head);
  if (in_pieces(a, first, dim, 16)) {
    const int pieces = dim / 8;
    for (int i = static_cast<int>(threadIdx.x); i < count * pieces; i += static_cast<int>(blockDim.x)) {
      const int row = i / pieces, c = i % pieces * 8;
      uint4 x = load(
          reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(a.data) + first + row * a.row_stride + c));
      x = make_uint4(as_halves(x.x, a.type), as_halves(x.y, a.type), as_halves(x.z, a.type), as_halves(x.w, a.type));
      store_shared(to + row * stride + c, x);
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < count * dim; i += static_cast<int>(blockDim.x)) {
      const int row = i / dim, c = i % dim;
      to[row * stride + c] = half_saturated(read_element(a, first + row * a.row_stride + c));
    }
  }
}

/// The same as values; `rows` (a multiple of 8) are written.
__device__ inline void number_values(const device_array& a, int head, int first_row, int count, int rows, int dim,
                                     std::uint16_t* to, int stride) {
  const std::int64_t first = a.at(first_row, head);
  if (in_pieces(a, first, dim, 4)) {
    const int pairs = dim / 2;
    for (int i = static_cast<int>(threadIdx.x); i < rows / 8 * pairs; i += static_cast<int>(blockDim.x)) {
      const int row = i / pairs * 8, c = i % pairs * 2;
      std::uint32_t x[8], low[4], high[4];  // two channels of eight rows
      TERSEKV_UNROLL
      for (int r = 0; r < 8; ++r)
        x[r] = row + r < count
                   ? as_halves(load(reinterpret_cast<const std::uint32_t*>(static_cast<const std::uint16_t*>(a.data) +
                                                                           first + (row + r) * a.row_stride + c)),
                               a.type)
                   : 0;
      TERSEKV_UNROLL
      for (int r = 0; r < 4; ++r) {
        low[r] = byte_perm<0x5410>(x[2 * r], x[2 * r + 1]);
        high[r] = byte_perm<0x7632>(x[2 * r], x[2 * r + 1]);
      }
      store_shared(to + c * stride + row, make_uint4(low[0], low[1], low[2], low[3]));
      store_shared(to + (c + 1) * stride + row, make_uint4(high[0], high[1], high[2], high[3]));
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += static_cast<int>(blockDim.x)) {
      const int row = i / dim, c = i % dim;
      to[c * stride + row] =
          row < count ? half_saturated(read_element(a, first + row * a.row_stride + c)) : static_cast<std::uint16_t>(0);
    }
  }
}

template <class T>
requires(sizeof(T) == 2) struct chunk_decoder<dense_format<T>> {
  using format = dense_format<T>;
  static constexpr element type = std::is_same_v<T, half> ? element::f16 : element::bf16;
  __device__ static device_array array(const std::byte* tile, int dim) {
    return {const_cast<std::byte*>(tile), type, dim, 0};
  }
  __device__ static bool fits(int) { return true; }
  __device__ static void keys(const format&, const std::byte* tile, int, int dim, int first, std::uint16_t* to,
                              int stride) {
    number_keys(array(tile, dim), 0, first, chunk_rows, dim, to, stride);
  }
  __device__ static void values(const format&, const std::byte* tile, int, int dim, int first, int valid,
                                std::uint16_t* to, int stride) {
    number_values(array(tile, dim), 0, first, valid, chunk_rows, dim, to, stride);
  }
};

}  // namespace tersekv::detail
