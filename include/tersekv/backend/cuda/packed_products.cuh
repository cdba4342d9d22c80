// SPDX-License-Identifier: Apache-2.0
// Scores of a packed piece of 32 rows, and weighted values of one: products of codes, and numbers of grids applied to
// what the products leave.
//
// Read before: packed_tiles.cuh, running_softmax.cuh, decode_query.cuh.
#pragma once
#include <cstdint>

#include <tersekv/backend/cuda/decode_query.cuh>
#include <tersekv/backend/cuda/packed_tiles.cuh>
#include <tersekv/backend/cuda/running_softmax.cuh>

namespace tersekv::detail {

inline constexpr std::uint32_t half2_one = 0x3c003c00u;

/// Scores of keys whose rows stand alone: score = sum over groups of step * (q . codes) + rest * sum of q.
/// Queries = 8 N rows.
template <class Tile, int N, int D>
class row_keys {
 public:
  using tile = Tile;
  using codes = key_codes<Tile>;

  __device__ row_keys(const float* queries, fragment_lane at) : codes_(at), at_(at) {
    query_operands<codes, N, D>(queries, at, q_);
    constexpr std::uint32_t ones[4] = {half2_one, half2_one, half2_one, half2_one};
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int g = 0; g < groups; ++g) {
      float sum[4] = {};
      TERSEKV_UNROLL
      for (int j = g * steps; j < (g + 1) * steps; ++j) TERSEKV_UNROLL
      for (int product = 0; product < 2; ++product) mma_half(sum, ones, q_[n][j][product]);
      sum_[n][g][0] = sum[0], sum_[n][g][1] = sum[1];
    }
  }

  __device__ __forceinline__ void scores(const std::byte* tile, float (&s)[N][4][2]) const {
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int p = 0; p < 4; ++p) s[n][p][0] = 0, s[n][p][1] = 0;
    TERSEKV_UNROLL
    for (int g = 0; g < groups; ++g) {
      float sum[N][2][4] = {};
      TERSEKV_UNROLL
      for (int j = g * steps; j < (g + 1) * steps; ++j) TERSEKV_UNROLL
      for (int half = 0; half < 2; ++half) {
        std::uint32_t a[2][4];
        codes_.load(tile, j, half, a);
        TERSEKV_UNROLL
        for (int n = 0; n < N; ++n) TERSEKV_UNROLL
        for (int product = 0; product < 2; ++product) mma_half(sum[n][half], a[product], q_[n][j][product]);
      }
      float step[4], rest[4];
      spread(row_numbers<Tile>(tile, at_, g), step);
      if constexpr (codes::words::has_rest) {
        spread(row_numbers<Tile>(tile, at_, groups + g), rest);
        if constexpr (codes::words::centre != 0) TERSEKV_UNROLL
        for (int p = 0; p < 4; ++p) rest[p] += step[p] * static_cast<float>(codes::words::centre);
      }
      TERSEKV_UNROLL
      for (int n = 0; n < N; ++n) TERSEKV_UNROLL
      for (int p = 0; p < 4; ++p) TERSEKV_UNROLL
      for (int h = 0; h < 2; ++h) {
        s[n][p][h] += step[p] * sum[n][p / 2][p % 2 * 2 + h];
        if constexpr (codes::words::has_rest) s[n][p][h] += rest[p] * sum_[n][g][h];
      }
    }
  }

 private:
  static constexpr int group = Tile::traits::template group<D>, groups = D / group, steps = group / 32;
  codes codes_;
  fragment_lane at_;
  std::uint32_t q_[N][D / 32][2][2];
  float sum_[N][groups][2];  // of the query's channels, as rounded
};

/// Scores of keys with one grid per channel: the query takes on the steps of the piece. Steps are scaled by a power of
/// two to below 1, so that products stay halves.
template <class Tile, int N, int D>
class channel_keys {
 public:
  using tile = Tile;
  using codes = key_codes<Tile>;

  __device__ channel_keys(const float* queries, fragment_lane at) : codes_(at), at_(at) {
    query_operands<codes, N, D>(queries, at, q_);
  }

  __device__ __forceinline__ void scores(const std::byte* tile, float (&s)[N][4][2]) const {
    std::uint32_t step[D / 32][2][2];
    std::uint32_t most = 0;
    float low[N][4] = {};
    TERSEKV_UNROLL
    for (int j = 0; j < D / 32; ++j) TERSEKV_UNROLL
    for (int product = 0; product < 2; ++product) {
      pairs(tile, j, product, 0, step[j][product]);
      most = half2_max(most, half2_max(step[j][product][0], step[j][product][1]));
      std::uint32_t z[2];
      pairs(tile, j, product, 1, z);
      const std::uint32_t a[4] = {z[0], z[0], z[1], z[1]};
      TERSEKV_UNROLL
      for (int n = 0; n < N; ++n) mma_half(low[n], a, q_[n][j][product]);
    }
    most = warp_reduce(most, half2_max, 2, 1);
    const float2 both = half2_unpack(most);
    const float largest = both.x > both.y ? both.x : both.y;
    int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 126;  // largest < 2^exponent
    exponent = exponent < -15 ? -15 : exponent;
    const float up = __uint_as_float(static_cast<std::uint32_t>(127 + exponent) << 23);
    const std::uint32_t down = half2_pack(1 / up, 1 / up);
    float sum[N][2][4] = {}, all[N][4] = {};
    TERSEKV_UNROLL
    for (int j = 0; j < D / 32; ++j) {
      std::uint32_t q[parts][N][2][2];
      TERSEKV_UNROLL
      for (int n = 0; n < N; ++n) TERSEKV_UNROLL
      for (int product = 0; product < 2; ++product) TERSEKV_UNROLL
      for (int k = 0; k < 2; ++k) {
        const std::uint32_t scaled = half2_mul(step[j][product][k], down), x = q_[n][j][product][k];
        q[0][n][product][k] = half2_mul(x, scaled);
        if constexpr (parts > 1) q[1][n][product][k] = half2_fma(x, scaled, q[0][n][product][k] ^ 0x80008000u);
      }
      TERSEKV_UNROLL
      for (int part = 0; part < parts; ++part) TERSEKV_UNROLL
      for (int n = 0; n < N; ++n) TERSEKV_UNROLL
      for (int product = 0; product < 2; ++product)
        if constexpr (codes::words::centre != 0) {
          constexpr std::uint32_t centre = codes::words::centre_pair, a[4] = {centre, centre, centre, centre};
          mma_half(all[n], a, q[part][n][product]);
        }
      TERSEKV_UNROLL
      for (int half = 0; half < 2; ++half) {
        std::uint32_t a[2][4];
        codes_.load(tile, j, half, a);
        TERSEKV_UNROLL
        for (int part = 0; part < parts; ++part) TERSEKV_UNROLL
        for (int n = 0; n < N; ++n) TERSEKV_UNROLL
        for (int product = 0; product < 2; ++product) mma_half(sum[n][half], a[product], q[part][n][product]);
      }
    }
    TERSEKV_UNROLL
    for (int n = 0; n < N; ++n) TERSEKV_UNROLL
    for (int p = 0; p < 4; ++p) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) s[n][p][h] = up * (sum[n][p / 2][p % 2 * 2 + h] + all[n][h]) + low[n][h];
  }

 private:
  static constexpr int parts = Tile::bits == 8 ? 2 : 1;  // halves that a scaled query takes

  /// Numbers of the lane's channels, as the codes are paired.
  __device__ __forceinline__ void pairs(const std::byte* tile, int j, int product, int which,
                                        std::uint32_t (&x)[2]) const {
    const int channel = codes::first_channel(at_, j, product);
    const int chunk = Tile::codes + Tile::plane * which + channel / 8;
    const auto four = load_shared<uint2>(tile + 16 * chunk_place<Tile::bits>(chunk) + channel % 8 * 2);
    x[0] = byte_perm<0x5410>(four.x, four.y), x[1] = byte_perm<0x7632>(four.x, four.y);
  }
  codes codes_;
  fragment_lane at_;
  std::uint32_t q_[N][D / 32][2][2];
};

/// Weighted values of rows that stand alone.
template <class Tile, int N, int D>
class row_values {
 public:
  using tile = Tile;
  using codes = value_codes<Tile>;
  static constexpr int group = Tile::traits::template group<D>, groups = D / group, steps = group / 32;
  static constexpr bool has_rest = codes::words::has_rest;
  using state = running_softmax<N, D / 16, has_rest ? groups : 1>;

  __device__ explicit row_values(fragment_lane at) : codes_(at), at_(at) {}

  /// Scores become weights, and weighted values are added. Rows from `left` on have never been written.
  __device__ __forceinline__ void add(const std::byte* tile, int left, float (&s)[N][4][2], const float (&scale)[N][2],
                                      state& all) const {
    uint2 steps_of[groups];
    std::uint32_t most = 0;
    TERSEKV_UNROLL
    for (int g = 0; g < groups; ++g) {
      steps_of[g] = row_numbers<Tile>(tile, at_, g);
      if (left < 32) hide(steps_of[g], left);
      most = half2_max(most, half2_max(steps_of[g].x & 0x7fff7fffu, steps_of[g].y & 0x7fff7fffu));
    }
    const float2 both = half2_unpack(most);
    all.weigh(s, scale, both.x > both.y ? both.x : both.y);
    TERSEKV_UNROLL
    for (int g = 0; g < groups; ++g) {
      float step[4];
      spread(steps_of[g], step);
      std::uint32_t b[N][2][2];
      transpose_weights(s, step, b);
      if constexpr (has_rest) {
        uint2 rests = row_numbers<Tile>(tile, at_, groups + g);
        if (left < 32) hide(rests, left);
        float rest[4];
        spread(rests, rest);
        TERSEKV_UNROLL
        for (int p = 0; p < 4; ++p) {
          if constexpr (codes::words::centre != 0) rest[p] += step[p] * static_cast<float>(codes::words::centre);
          TERSEKV_UNROLL
          for (int n = 0; n < N; ++n) TERSEKV_UNROLL
          for (int h = 0; h < 2; ++h) all.rest[n][g][h] += s[n][p][h] * rest[p];
        }
      }
      TERSEKV_UNROLL
      for (int t = g * steps; t < (g + 1) * steps; ++t) {
        std::uint32_t a[2][2][4];
        codes_.load(tile, t, a);
        TERSEKV_UNROLL
        for (int n = 0; n < N; ++n) TERSEKV_UNROLL
        for (int half = 0; half < 2; ++half) TERSEKV_UNROLL
        for (int quad = 0; quad < 2; ++quad) mma_half(all.out[n][2 * t + half], a[half][quad], b[n][quad]);
      }
    }
  }

  /// The channel of out[n][i][k], and the sum that belongs to it.
  __device__ static int channel(fragment_lane at, int i, int k) { return i / 2 * 32 + 4 * at.row + i % 2 * 2 + k / 2; }
  __device__ static float rest(const state& all, int n, int i, int h) {
    if constexpr (has_rest) return all.rest[n][i / 2 / steps][h];
    return 0;
  }

 private:
  __device__ void hide(uint2& pairs, int left) const {
    const int first = at_.first_row();
    pairs.x = first + 1 < left ? pairs.x : first < left ? pairs.x & 0xffffu : 0u;
    pairs.y = first + 5 < left ? pairs.y : first + 4 < left ? pairs.y & 0xffffu : 0u;
  }
  codes codes_;
  fragment_lane at_;
};

}  // namespace tersekv::detail
