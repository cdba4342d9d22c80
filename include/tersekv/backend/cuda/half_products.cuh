// SPDX-License-Identifier: Apache-2.0
// Scores and weighted values of 32 rows that are 16-bit numbers in shared memory: sinks, windows, a step's own rows,
// and pages of such numbers. bfloat16 becomes half in registers; what halves cannot hold saturates.
//
// A row stands at slot(row), so that the rows of a block of fragments.cuh follow each other; a chunk of 16 bytes
// between rows keeps eight of them in different banks.
#pragma once
#include <concepts>
#include <cstdint>

#include <tersekv/backend/cuda/decode_query.cuh>
#include <tersekv/backend/cuda/running_softmax.cuh>

namespace tersekv::detail {

/// 32 rows of D halves.
template <int D>
struct half_tile {
  static_assert(D % 16 == 0);
  static constexpr int dim = D, row_bytes = 2 * D + 16, bytes = 32 * row_bytes;

  __device__ static int slot(int row) {
    const int block = row % 2 + row / 4 % 2 * 2;
    return 8 * block + row / 8 * 2 + row / 2 % 2;
  }

  /// Starts the copies of rows[rows, D], aligned to 16 bytes; the tile's other rows become zeros. 32 lanes.
  __device__ static void fetch(std::byte* tile, const half* rows, int count, int lane) {
    for (int i = lane; i < 32 * D / 8; i += 32) {
      const int row = i / (D / 8), chunk = i % (D / 8);
      copy_async<16>(tile + slot(row) * row_bytes + 16 * chunk, rows + (row < count ? row * D : 0) + 8 * chunk,
                     row < count ? 16 : 0);
    }
  }
  /// The same for numbers of any kind, at once; what halves cannot hold saturates.
  __device__ static void convert(std::byte* tile, const device_array& a, int first, int count, int head, int lane) {
    for (int i = lane; i < 32 * D; i += 32) {
      const int row = i / D, channel = i % D;
      half x{};
      if (row < count) x = from_float<half>(read_element(a, a.at(first + row, head) + channel));
      store_shared(tile + slot(row) * row_bytes + 2 * channel, x.bits);
    }
  }
};

/// 32 rows of a page of 16-bit numbers, as packed_tile.
template <class T, int D, int PageRows>
struct dense_tile {
  static constexpr int chunks = half_tile<D>::bytes / 16, page_bytes = PageRows * D * 2;
  __device__ __forceinline__ static void fetch(std::byte* to, const std::byte* tile, int piece, int left, int lane) {
    half_tile<D>::fetch(to, reinterpret_cast<const half*>(tile) + piece * 32 * D, left, lane);
  }
};

/// What load_blocks gave, as halves.
template <class T>
__device__ __forceinline__ void as_halves(std::uint32_t (&a)[4]) {
  TERSEKV_UNROLL
  for (int k = 0; k < 4; ++k) a[k] = as_halves(a[k], std::same_as<T, half> ? element::f16 : element::bf16);
}

/// T: half or bfloat16.
template <class T, int N, int D>
class half_keys {
 public:
  using tile_type = half_tile<D>;

  __device__ half_keys(const float* queries, fragment_lane at)
      : from_((at.lane() / 8 % 2 * 8 + at.lane() % 8) * tile_type::row_bytes + at.lane() / 16 * 16) {
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int j = 0; j < D / 16; ++j) TERSEKV_UNROLL
    for (int k = 0; k < 2; ++k) {
      const auto x =
          load_shared<float2>(queries + (8 * n + at.row) * D + query_place(at.row, 16 * j + 8 * k + 2 * at.pair));
      q_[n][j][k] = half2_pack(x.x, x.y);
    }
  }
  __device__ __forceinline__ void scores(const std::byte* tile, float (&s)[N][4][2]) const {
    float sum[N][2][4] = {};
    TERSEKV_UNROLL
    for (int j = 0; j < D / 16; ++j) TERSEKV_UNROLL
    for (int half = 0; half < 2; ++half) {
      std::uint32_t a[4];
      load_blocks(a, tile + from_ + 16 * half * tile_type::row_bytes + 32 * j);
      as_halves<T>(a);
      TERSEKV_UNROLL
      for (int n = 0; n < N; ++n) mma_half(sum[n][half], a, q_[n][j]);
    }
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int p = 0; p < 4; ++p) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) s[n][p][h] = sum[n][p / 2][p % 2 * 2 + h];
  }

 private:
  int from_;
  std::uint32_t q_[N][D / 16][2];
};

template <class T, int N, int D>
class half_values {
 public:
  using tile_type = half_tile<D>;
  using state = running_softmax<N, D / 16, 1>;

  __device__ explicit half_values(fragment_lane at)
      : from_((at.lane() / 16 * 8 + at.lane() % 8) * tile_type::row_bytes + at.lane() / 8 % 2 * 16) {}

  /// As row_values::add.
  __device__ __forceinline__ void add(const std::byte* tile, int, float (&s)[N][4][2], const float (&scale)[N][2],
                                      state& all) const {
    all.weigh(s, scale, 1.0f);
    constexpr float ones[4] = {1, 1, 1, 1};
    std::uint32_t b[N][2][2];
    transpose_weights(s, ones, b);
    TERSEKV_UNROLL
    for (int i = 0; i < D / 16; ++i) TERSEKV_UNROLL
    for (int quad = 0; quad < 2; ++quad) {
      std::uint32_t a[4];
      load_blocks_transposed(a, tile + from_ + 16 * quad * tile_type::row_bytes + 32 * i);
      as_halves<T>(a);
      TERSEKV_UNROLL
      for (int n = 0; n < N; ++n) mma_half(all.out[n][i], a, b[n][quad]);
    }
  }
  __device__ static int channel(fragment_lane at, int i, int k) { return 16 * i + at.row + 8 * (k / 2); }
  __device__ static float rest(const state&, int, int, int) { return 0; }

 private:
  int from_;
};

}  // namespace tersekv::detail
