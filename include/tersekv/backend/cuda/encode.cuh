// SPDX-License-Identifier: Apache-2.0
// Rows of numbers to packed rows and back, by the threads of one block, for every format of the catalogue. Bytes are
// those that Format::encode writes on the CPU.
//
// Scales first (one warp per group, or one thread per channel), then words of codes. All functions are called by the
// whole block behind a barrier, and end with one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <tersekv/adapt/through.hpp>
#include <tersekv/backend/cuda/codes.cuh>
#include <tersekv/backend/cuda/turn.cuh>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/ggml_blocks.hpp>
#include <tersekv/codec/grouped.hpp>
#include <tersekv/codec/kivi.hpp>

namespace tersekv::detail {

/// Rows of floats in memory that the block works on, `stride` apart.
struct row_floats {
  float* data;
  int stride;
  __device__ float* row(int r) const { return data + static_cast<std::ptrdiff_t>(r) * stride; }
};
/// One row of a tile.
struct tile_row {
  const std::byte* tile;
  int row;
};
/// What Grid::code needs to know of a group.
struct coder {
  float low, inverse;
};
inline constexpr int most_coders = 1024;  // that a block holds at a time: no row has more groups

__device__ __forceinline__ void store_scale(std::byte* steps, std::byte* lows, std::size_t at, const grid::scale& s) {
  store_half(steps + at, s.step);
  if (lows) store_half(lows + at, s.low);
}

/// The grid of x[n], found by a warp; every lane gets the answer.
template <class Grid>
__device__ grid::scale fit_group(const float* x, int n, coder& found) {
  const int lane = lane_id();
  interval range{x[lane < n ? lane : 0], x[lane < n ? lane : 0]};
  for (int i = lane + 32; i < n; i += 32) {
    range.smallest = x[i] < range.smallest ? x[i] : range.smallest;
    range.largest = x[i] > range.largest ? x[i] : range.largest;
  }
  range.smallest = warp_reduce(range.smallest, [](float a, float b) { return b < a ? b : a; });
  range.largest = warp_reduce(range.largest, [](float a, float b) { return b > a ? b : a; });
  if constexpr (requires { Grid::block; }) {
    static_assert(Grid::block == 32, "tersekv: a warp holds a block");
    const float mine = x[lane];
    const unsigned extreme = __ballot_sync(all_lanes, mine == range.largest || mine == range.smallest);
    const float first = __shfl_sync(all_lanes, mine, __ffs(static_cast<int>(extreme)) - 1);
    const float step = Grid::step(largest_magnitude(range, first));
    found = {0.0f, Grid::inverse(step)};
    if constexpr (requires { typename Grid::refined_step; }) {
      const std::uint32_t code = Grid::code(mine, 0.0f, found.inverse);
      typename Grid::refined_step refined;
      for (int i = 0; i < 32; ++i) refined.add(__shfl_sync(all_lanes, mine, i), __shfl_sync(all_lanes, code, i));
      return {from_float<half>(refined.step(step)), half{}};
    } else {
      return {from_float<half>(step), half{}};
    }
  } else {
    const grid::scale s = Grid::fit(range.smallest, range.largest);
    found = {to_float(s.low), grid::inverse(to_float(s.step))};
    return s;
  }
}

/// How a block works on the rows of a format:
///   encode(f, x, dim, tile, rows, first, count, coders)   rows first .. first + count become x[count, dim], which is
///                                                         scratch afterwards; coders [most_coders] are shared memory
///   decode(f, from, rows, dim, count, x)                  x[k] = the row from(k), a tile_row
///   move(f, from, rows, dim, count, tile)                 row k of the tile = the row from(k), bit for bit; span == 1
template <class Format>
struct block_format;

/// decode, where a format gives single numbers.
template <class Format>
struct decode_by_value {
  template <class From>
  __device__ static void decode(const Format& f, From from, int rows, int dim, int count, row_floats x) {
    each_thread(count * dim, [&](int i) {
      const tile_row r = from(i / dim);
      x.row(i / dim)[i % dim] = f.value(r.tile, rows, dim, r.row, i % dim);
    });
    __syncthreads();
  }
};

/// move, where rows are bytes side by side.
template <class Format>
struct move_bytes {
  template <class From>
  __device__ static void move(const Format&, From from, int, int dim, int count, std::byte* tile) {
    const auto halves = static_cast<int>(Format::row_bytes(dim) / 2);
    auto* to = reinterpret_cast<std::uint16_t*>(tile);
    each_thread(count * halves, [&](int i) {
      const tile_row r = from(i / halves);
      to[i] = reinterpret_cast<const std::uint16_t*>(r.tile)[static_cast<std::ptrdiff_t>(r.row) * halves + i % halves];
    });
    __syncthreads();
  }
};

template <class Grid, int Group, class Reopen, class Layout>
struct block_format<grouped_format<Grid, Group, Reopen, Layout>>
    : decode_by_value<grouped_format<Grid, Group, Reopen, Layout>> {
  using format = grouped_format<Grid, Group, Reopen, Layout>;
  using writer = code_writer<Layout, Grid::bits>;

  __device__ static void encode(const format&, row_floats x, int dim, std::byte* tile, int rows, int first, int count,
                                coder* coders) {
    const int size = format::group(dim), groups = dim / size, most = most_coders / groups;
    std::byte* steps = tile + format::steps_at(rows, dim);
    std::byte* lows = Grid::numbers > 1 ? tile + format::lows_at(rows, dim) : nullptr;
    for (int done = 0; done < count; done += most) {
      const int now = most < count - done ? most : count - done, begin = first + done;
      each_warp(now * groups, [&](int i) {
        const int r = i / groups, g = i % groups;
        coder found;
        const grid::scale s = fit_group<Grid>(x.row(done + r) + g * size, size, found);
        if (lane_id() != 0) return;
        coders[i] = found;
        store_scale(steps, lows, 2 * number_at<Layout>(begin + r, g, rows, groups), s);
      });
      __syncthreads();
      writer::write(tile, dim, begin, now, [&](int row, int c) {
        const coder k = coders[(row - begin) * groups + group_of(c, groups)];
        return Grid::code(x.row(row - first)[c], k.low, k.inverse) ^ format::flip;
      });
      __syncthreads();
    }
  }

  template <class From>
  __device__ static void move(const format&, From from, int rows, int dim, int count, std::byte* tile) {
    writer::write(tile, dim, 0, count, [&](int row, int c) {
      const tile_row r = from(row);
      return format::codes::code(r.tile, dim, r.row, c);
    });
    const int groups = dim / format::group(dim);
    each_thread(count * groups, [&](int i) {
      const tile_row r = from(i / groups);
      const int g = i % groups;
      const std::size_t to = 2 * number_at<Layout>(i / groups, g, rows, groups);
      const std::size_t at = 2 * number_at<Layout>(r.row, g, rows, groups);
      const std::size_t steps = format::steps_at(rows, dim), lows = format::lows_at(rows, dim);
      std::memcpy(tile + steps + to, r.tile + steps + at, 2);
      if constexpr (Grid::numbers > 1) std::memcpy(tile + lows + to, r.tile + lows + at, 2);
    });
    __syncthreads();
  }

 private:
  /// Channel / group size, by a constant.
  __device__ static int group_of(int channel, int groups) {
    if constexpr (Group == 0)
      return 0;
    else
      return groups == 1 ? 0 : channel / Group;
  }
};

template <class Grid>
struct block_format<ggml_rows<Grid>> : decode_by_value<ggml_rows<Grid>>, move_bytes<ggml_rows<Grid>> {
  using format = ggml_rows<Grid>;
  static constexpr int block = Grid::block, bytes = static_cast<int>(format::block_bytes);

  __device__ static void encode(const format&, row_floats x, int dim, std::byte* tile, int, int first, int count,
                                coder*) {
    const int blocks = dim / block;
    std::byte* to = tile + format::row_bytes(dim) * static_cast<std::size_t>(first);
    each_warp(count * blocks, [&](int i) {  // lane j has channel j
      const float* from = x.row(i / blocks) + i % blocks * block;
      coder found;
      const grid::scale s = fit_group<Grid>(from, block, found);
      std::uint32_t code = Grid::code(from[lane_id()], 0.0f, found.inverse);
      if constexpr (Grid::bits == 4) code |= __shfl_down_sync(all_lanes, code, block / 2) << 4;
      if (lane_id() == 0) store_half(to + i * bytes, s.step);
      if (lane_id() < bytes - 2) to[i * bytes + 2 + lane_id()] = static_cast<std::byte>(code & 0xffu);
    });
    __syncthreads();
  }
};

/// The grids of one span x[span, dim], a thread for each channel.
template <class Format>
__device__ void fit_channels(row_floats x, int dim, std::byte* tile, int rows, int s, coder* coders) {
  each_thread(dim, [&](int c) {
    interval range{x.data[c], x.data[c]};
    for (int t = 1; t < Format::span; ++t) {
      const float v = x.row(t)[c];
      range.smallest = v < range.smallest ? v : range.smallest;
      range.largest = v > range.largest ? v : range.largest;
    }
    const grid::scale scale = Format::grid::fit(range.smallest, range.largest);
    const typename Format::place at(rows, dim, s, c);
    store_scale(tile + at.step, tile + at.low, 0, scale);
    coders[c] = {to_float(scale.low), grid::inverse(to_float(scale.step))};
  });
  __syncthreads();
}

template <class Grid, int Span, class Reopen, class Layout>
struct block_format<channel_format<Grid, Span, Reopen, Layout>>
    : decode_by_value<channel_format<Grid, Span, Reopen, Layout>> {
  using format = channel_format<Grid, Span, Reopen, Layout>;

  __device__ static void encode(const format&, row_floats x, int dim, std::byte* tile, int rows, int first, int count,
                                coder* coders) {
    for (int r = first; r < first + count; r += Span, x.data = x.row(Span)) {
      fit_channels<format>(x, dim, tile, rows, r / Span, coders);
      const auto code = [&](int row, int c) { return Grid::code(x.row(row - r)[c], coders[c].low, coders[c].inverse); };
      if constexpr (std::same_as<Layout, layout::rows>)
        each_thread(dim * format::words, [&](int i) {
          const int c = i / format::words;
          *word_at(tile + format::words_at(dim, r / Span, 0) + 4 * static_cast<std::size_t>(i)) =
              stream_unit<Grid::bits, 32>(i % format::words, Span, [&](int t) { return code(r + t, c); });
        });
      else
        code_writer<Layout, Grid::bits>::write(tile, dim, r, Span, code);
      __syncthreads();
    }
  }
};

template <class T>
struct block_format<dense_format<T>> : decode_by_value<dense_format<T>>, move_bytes<dense_format<T>> {
  __device__ static void encode(const dense_format<T>&, row_floats x, int dim, std::byte* tile, int, int first,
                                int count, coder*) {
    T* to = reinterpret_cast<T*>(tile) + static_cast<std::ptrdiff_t>(first) * dim;
    each_thread(count * dim, [&](int i) { to[i] = from_float<T>(x.row(i / dim)[i % dim]); });
    __syncthreads();
  }
};

/// Transforms with a warp's form (turn.cuh) that is the same for keys and for values.
template <class Transform, class Format, bool Keys>
struct block_format<through_format<Transform, Format, Keys>> {
  using format = through_format<Transform, Format, Keys>;
  using inner = block_format<Format>;

  __device__ static void encode(const format& f, row_floats x, int dim, std::byte* tile, int rows, int first, int count,
                                coder* coders) {
    each_warp(count, [&](int r) {
      for (int c = lane_id(); c < dim; c += 32) x.row(r)[c] = grid::clamp(x.row(r)[c], -largest_half, largest_half);
      __syncwarp();
      turn_query(f.turn, x.row(r), dim);
    });
    __syncthreads();
    inner::encode(f.inner, x, dim, tile, rows, first, count, coders);
  }
  template <class From>
  __device__ static void decode(const format& f, From from, int rows, int dim, int count, row_floats x) {
    inner::decode(f.inner, from, rows, dim, count, x);
    each_warp(count, [&](int r) { turn_output(f.turn, x.row(r), dim); });
    __syncthreads();
  }
  template <class From>
  __device__ static void move(const format& f, From from, int rows, int dim, int count, std::byte* tile) {
    inner::move(f.inner, from, rows, dim, count, tile);
  }
};

}  // namespace tersekv::detail
