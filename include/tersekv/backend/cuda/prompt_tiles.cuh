// SPDX-License-Identifier: Apache-2.0
// What the kernels for many queries share: blocks of 64 query rows (tokens times query heads of a group), tiles of key
// and value rows in shared memory, and logits by matrix products.
//
// A warp owns 16 query rows. With quad = lane / 4 and pair = lane % 4, a lane holds of its warp's products rows quad
// and quad + 8, and of every eight columns the two at 2 pair.
//
// Read before: rows_as_numbers.cuh, tile_decode.cuh, reference.cuh.
#pragma once
#include <tersekv/backend/cuda/reference.cuh>
#include <tersekv/backend/cuda/tile_decode.cuh>

namespace tersekv::detail {

/// D: the largest dimension of keys and values, a multiple of 32.
template <class Page, int D>
struct prompt_shape {
  static constexpr int rows = 64, keys = D > 128 ? 32 : 64;  // of a block of queries, of a tile
  static constexpr int warps = rows / 16, threads = 32 * warps;
  static constexpr int blocks = D > 128 ? 2 : D > 64 ? 3 : 4;        // of a multiprocessor, as registers allow
  static constexpr int key_stride = D + 8, value_stride = keys + 8;  // eight rows begin in eight different 16 bytes
  static constexpr bool turned_keys = stored_basis<typename Page::key_format>::turned;
  static constexpr bool turned_values = stored_basis<typename Page::value_format>::turned;
  static constexpr auto size(int n) { return static_cast<std::size_t>(n); }
  using queries = region<std::uint16_t, size(rows* key_stride)>;
  using key_tile = region<std::uint16_t, size(keys* key_stride)>;
  using value_tile = region<std::uint16_t, size(D* value_stride)>;
  using turning = region<float, size(turned_keys || turned_values ? warps * D : 4)>;  // a row of each warp
  using positions = region<int, size(keys)>;
  using biases = region<float, size(keys)>;
};

/// Queries of the calling warp: in shared memory as halves, divided by a power of two for each row.
struct warp_queries {
  std::uint16_t* q;  // [16, key_stride], zeros behind key_dim
  float factor[2];   // what the lane's rows are to be multiplied by
};

/// Loads query rows first .. first + 16 of KV head `head`; zeros behind the last one. `turn(x)`: changes a row in
/// `turning` [D], or nothing where that is null.
template <int D, class Turn>
__device__ void load_queries(warp_queries& to, const step_view& step, const attend_shape& shape, int head, int first,
                             int key_dim, float* turning, Turn turn) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  __syncwarp();
  for (int r = 0; r < 16; ++r) {
    const int row = first + r, token = row / shape.group;
    const bool exists = token < step.query.n;
    const std::int64_t at = exists ? step.query.queries.at(token, head * shape.group + row % shape.group) : 0;
    float x[D / 32], largest = 0;
    TERSEKV_UNROLL
    for (int i = 0; i < D / 32; ++i) {
      const int c = lane + 32 * i;
      x[i] = exists && c < key_dim ? read_element(step.query.queries, at + c) * (shape.scale * log2_of_e) : 0.0f;
      if (turning) turning[c] = x[i];
    }
    if (turning) {
      __syncwarp();
      turn(turning);
      TERSEKV_UNROLL
      for (int i = 0; i < D / 32; ++i) x[i] = turning[lane + 32 * i];
      __syncwarp();
    }
    TERSEKV_UNROLL
    for (int i = 0; i < D / 32; ++i) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    largest = warp_reduce(largest, [](float a, float b) { return a > b ? a : b; });
    std::uint32_t exponent = __float_as_uint(largest) & 0x7f800000u;
    if (exponent > 253u << 23) exponent = 253u << 23;  // what follows has an inverse
    const float factor = exponent == 0 ? 1.0f : __uint_as_float(exponent);
    const float inverse = exponent == 0 ? 1.0f : __uint_as_float((254u << 23) - exponent);
    TERSEKV_UNROLL
    for (int i = 0; i < D / 32; ++i) to.q[r * (D + 8) + lane + 32 * i] = half_from_float(x[i] * inverse);
    if (lane / 4 == r) to.factor[0] = factor;
    if (lane / 4 + 8 == r) to.factor[1] = factor;
  }
  __syncwarp();
}

/// s [16 rows of the warp, Keys] = queries * keys of the tile.
template <int D, int Keys>
__device__ __forceinline__ void multiply_keys(float (&s)[Keys / 8][4], const std::uint16_t* q,
                                              const std::uint16_t* keys, int key_dim) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  TERSEKV_UNROLL
  for (int j = 0; j < Keys / 8; ++j) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
  TERSEKV_UNROLL
  for (int c = 0; c < D; c += 16) {
    if (c >= key_dim) break;
    std::uint32_t a[4];
    load_blocks(a, q + lane % 16 * (D + 8) + c + lane / 16 * 8);
    TERSEKV_UNROLL
    for (int j = 0; j < Keys / 16; ++j) {
      std::uint32_t b[4];
      load_blocks(b, keys + (16 * j + lane / 16 * 8 + lane % 8) * (D + 8) + c + lane / 8 % 2 * 8);
      mma_half(s[2 * j], a, {b[0], b[1]});
      mma_half(s[2 * j + 1], a, {b[2], b[3]});
    }
  }
}

/// f(dim), where the compiler knows the usual D.
template <int D, class F>
__device__ __forceinline__ void with_dim(int dim, F f) {
  if (dim == D)
    f(D);
  else
    f(dim);
}

/// Tiles of one KV head.
template <class Page, int D>
struct tile_loader {
  using shape = prompt_shape<Page, D>;
  const head_reader<Page>& rows;
  std::uint16_t* keys;    // [shape::keys, key_stride]
  std::uint16_t* values;  // [D, value_stride]

  /// Once: zeros between key_dim and the next multiple of 16.
  __device__ void clear() const {
    const int dim = rows.page.key_dim, behind = (dim + 15) / 16 * 16 - dim;
    for (int i = static_cast<int>(threadIdx.x); i < shape::keys * behind; i += shape::threads)
      keys[i / behind * shape::key_stride + dim + i % behind] = 0;
  }
  template <row_part P>
  __device__ void load_keys(int first) const {
    if constexpr (P == row_part::packed)
      each_chunk(first, [&](const std::byte* page, int row, int, int at) {
        using basis = stored_basis<typename Page::key_format>;
        using format = typename basis::format;
        const format& f = basis::codes(rows.page.keys);
        std::uint16_t* to = keys + at * shape::key_stride;
        with_dim<D>(rows.page.key_dim, [&](int dim) {
          if (chunk_decoder<format>::fits(dim))
            chunk_decoder<format>::keys(f, page, Page::rows, dim, row, to, shape::key_stride);
          else
            plain_decoder<format>::keys(f, page, Page::rows, dim, row, to, shape::key_stride);
        });
      });
    else
      with_dim<D>(rows.page.key_dim, [&](int dim) {
        number_keys(rows.template key_array<P>(), rows.kv_head, first, here<P>(first), dim, keys, shape::key_stride);
      });
  }
  template <row_part P>
  __device__ void load_values(int first) const {
    if constexpr (P == row_part::packed)
      each_chunk(first, [&](const std::byte* page, int row, int valid, int at) {
        using basis = stored_basis<typename Page::value_format>;
        using format = typename basis::format;
        const format& f = basis::codes(rows.page.values);
        std::uint16_t* to = values + at;
        with_dim<D>(rows.page.value_dim, [&](int dim) {
          if (chunk_decoder<format>::fits(dim))
            chunk_decoder<format>::values(f, rows.page.values_of(page), Page::rows, dim, row, valid, to,
                                          shape::value_stride);
          else
            plain_decoder<format>::values(f, rows.page.values_of(page), Page::rows, dim, row, valid, to,
                                          shape::value_stride);
        });
      });
    else
      with_dim<D>(rows.page.value_dim, [&](int dim) {
        number_values(rows.template value_array<P>(), rows.kv_head, first, here<P>(first), shape::keys, dim, values,
                      shape::value_stride);
      });
  }
  /// Rows of the tile that exist.
  template <row_part P>
  __device__ int here(int first) const {
    const int left = rows.template count<P>() - first;
    return left < shape::keys ? left : shape::keys;
  }

 private:
  /// f(page, row of the page, rows that exist, row of the tile) for every chunk of a tile of packed rows; a chunk that
  /// lies behind the last row repeats another one, with no row that exists.
  template <class F>
  __device__ void each_chunk(int first, F f) const {
    const int count = rows.template count<row_part::packed>();
    for (int at = 0; at < shape::keys; at += chunk_rows) {
      const int row = rows.packed_row(first + at < count ? first + at : first), left = rows.head.packed - row;
      f(rows.head.page[row / Page::rows], row % Page::rows, first + at < count ? left : 0, at);
    }
  }
};

}  // namespace tersekv::detail
