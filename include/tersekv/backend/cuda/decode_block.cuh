// SPDX-License-Identifier: Apache-2.0
// One block of decode attention: its arguments, its shared memory, and what its warps leave.
//
// Read before: packed_products.cuh, half_products.cuh, decode_plan.hpp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <tersekv/backend/cuda/decode_plan.hpp>
#include <tersekv/backend/cuda/half_products.cuh>
#include <tersekv/backend/cuda/packed_products.cuh>
#include <tersekv/codec/dense.hpp>
#include <tersekv/page_format.hpp>

namespace tersekv::detail {

struct decode_arguments {
  decode_plan plan;
  attend_shape shape;
  const device_query* batch;  // [sequences]
  float* out;                 // [parts, value_dim], not divided by the sum
  float2* sums;               // [parts] reference (base 2), sum
  page_lists lists;
  decode_record record;
};

/// How the kernel reads a format: a tile in shared memory, and products with it. reads_keys, reads_values: whether it
/// does.
template <class Format>
struct decode_format {
  using traits = packed_traits<Format>;
  static constexpr bool reads_keys = traits::keys, reads_values = traits::values;
  template <int D, int PageRows>
  using tile = packed_tile<Format, D, PageRows>;
  template <class Tile, int N, int D>
  using keys = std::conditional_t<traits::by_channel, channel_keys<Tile, N, D>, row_keys<Tile, N, D>>;
  template <class Tile, int N, int D>
  using values = row_values<Tile, N, D>;
};
template <class Number>
struct decode_format<dense_format<Number>> {
  static constexpr bool reads_keys = sizeof(Number) == 2, reads_values = reads_keys;
  template <int D, int PageRows>
  using tile = dense_tile<Number, D, PageRows>;
  template <class Tile, int N, int D>
  using keys = half_keys<Number, N, D>;
  template <class Tile, int N, int D>
  using values = half_values<Number, N, D>;
};

/// Kernels of one page format: KD, VD channels, 8 N query rows at a time.
template <class Page, int KD, int VD, int N_>
struct decode_traits {
  static constexpr int N = N_, key_dim = KD, value_dim = VD;
  static constexpr int pieces_of_page = Page::rows / 32;
  using key_format = decode_format<typename Page::key_format>;
  using value_format = decode_format<typename Page::value_format>;
  using key_tile = typename key_format::template tile<KD, Page::rows>;
  using value_tile = typename value_format::template tile<VD, Page::rows>;
  using keys = typename key_format::template keys<key_tile, N, KD>;
  using values = typename value_format::template values<value_tile, N, VD>;

  // A stage: keys, values, positions, biases of a piece. Regions begin at multiples of 32 chunks.
  static constexpr int values_at = (key_tile::chunks + 31) / 32 * 512;
  static constexpr int positions_at = values_at + (value_tile::chunks + 7) / 8 * 128;
  static constexpr int stage_bytes = (positions_at + 256 + 511) / 512 * 512;
  static constexpr int stages = 3 * stage_bytes <= tuning::decode_ring_bytes ? 3 : 2;

  // Rows that are numbers use the same room; values stand beside keys where that fits.
  static constexpr int half_bytes = half_tile<KD>::bytes + half_tile<VD>::bytes;
  static constexpr bool beside = half_bytes <= tuning::decode_ring_bytes;
  static constexpr int half_room = beside                                        ? half_bytes
                                   : half_tile<KD>::bytes > half_tile<VD>::bytes ? half_tile<KD>::bytes
                                                                                 : half_tile<VD>::bytes;

  static constexpr int state_bytes = 8 * N * (VD + 2) * 4;
  static constexpr int most(int a, int b) { return a > b ? a : b; }
  static constexpr int warp_bytes = (most(stages * stage_bytes, most(half_room, state_bytes)) + 511) / 512 * 512;
  template <int Warps>
  using memory_of =
      shared_layout<region<uint4, std::size_t{Warps} * warp_bytes / 16>, region<float, std::size_t{8} * N * KD>,
                    region<float, std::size_t{8} * N>, region<sight_range, std::size_t{8} * N>>;

  /// Long rows: fewer warps, so that a block fits everywhere.
  template <int Warps>
  static constexpr int fitting() {
    if constexpr (Warps > 1 && memory_of<Warps>::device_bytes > shared_everywhere)
      return fitting<Warps / 2>();
    else
      return Warps;
  }
  static constexpr int warps = fitting<tuning::decode_warps>(), threads = 32 * warps;
  using memory = memory_of<warps>;
  static_assert(memory::device_bytes <= shared_everywhere);
};

/// What all functions of a block know.
template <class T>
struct decode_block {
  const decode_arguments& a;
  const device_query& query;
  const device_head& head;
  int sequence, kv_head, split, warp, lane;
  pass_rows_of pass;
  fragment_lane at;
  std::byte* ring;     // of the warp
  float* queries;      // [8 N, key_dim]
  float* scale;        // [8 N]
  sight_range* sight;  // [8 N]

  __device__ decode_block(const decode_arguments& a, const device_query& query, int kv_head, int pass)
      : a(a), query(query), head(query.heads[kv_head]), sequence(static_cast<int>(blockIdx.z)), kv_head(kv_head),
        split(static_cast<int>(blockIdx.x)), warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32), pass{8 * T::N * pass, query.n * a.shape.group - 8 * T::N * pass},
        at(lane), ring(reinterpret_cast<std::byte*>(T::memory::template get<0>()) + warp * T::warp_bytes),
        queries(T::memory::template get<1>()), scale(T::memory::template get<2>()),
        sight(T::memory::template get<3>()) {}

  __device__ number_pieces numbers() const { return {head.sinks, head.packed, head.window, query.n}; }
  __device__ void scales(float (&x)[T::N][2]) const {
    TERSEKV_UNROLL
    for (int n = 0; n < T::N; ++n) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) x[n][h] = load_shared<float>(scale + 8 * n + 2 * at.pair + h);
  }

  __device__ bool sees(int n, int h, int position) const {
    return load_shared<sight_range>(sight + 8 * n + 2 * at.pair + h).sees(position);
  }

  /// Leaves the weights of piece `piece` for policies.
  template <class State>
  __device__ void record(int piece, const float (&weights)[T::N][4][2], const State& state) const {
    const float undo = exp2_fast(-state.lift);
    TERSEKV_UNROLL
    for (int n = 0; n < T::N; ++n) {
      if (8 * n >= pass.count) break;
      const std::size_t octet = a.plan.recorded(sequence, kv_head, piece, pass.first / 8 + n);
      TERSEKV_UNROLL
      for (int p = 0; p < 4; ++p)
        store(a.record.weights + (octet * 32 + static_cast<std::size_t>(8 * p + at.row)) * 4 + at.pair,
              half2_pack(weights[n][p][0] * undo, weights[n][p][1] * undo));
      if (at.row == 0)
        store(reinterpret_cast<float2*>(a.record.references + octet * 8) + at.pair,
              float2{state.largest[n][0], state.largest[n][1]});
    }
  }

  /// Where channel `c` of query row `row` of a state stands: rows of a lane's pair apart meet different banks.
  __device__ static int state_place(int row, int c) { return c ^ (row / 2 % 2 * 2 + row / 4 % 2 * 16); }

  /// The warp's state to shared memory.
  template <class Values, class State>
  __device__ void leave(State& state) const {
    state.finish();
    auto* to = reinterpret_cast<float*>(ring);
    TERSEKV_UNROLL
    for (int n = 0; n < T::N; ++n) TERSEKV_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = 8 * n + 2 * at.pair + h;
      TERSEKV_UNROLL
      for (int i = 0; i < T::value_dim / 16; ++i) TERSEKV_UNROLL
      for (int k = 0; k < 2; ++k)
        store_shared(to + row * T::value_dim + state_place(row, Values::channel(at, i, 2 * k)),
                     state.out[n][i][2 * k + h] + Values::rest(state, n, i, h));
      if (at.row == 0)
        store_shared(to + 8 * T::N * T::value_dim + 2 * row, float2{state.reference(n, h), state.sum[n][h]});
    }
  }

  /// The sum of all warps to global memory. After a barrier.
  __device__ void merge_warps() const {
    const auto* first = reinterpret_cast<const float*>(T::memory::template get<0>());
    const auto sums = [&](int w, int r) {
      return load_shared<float2>(first + w * (T::warp_bytes / 4) + 8 * T::N * T::value_dim + 2 * r);
    };
    const int count = pass.count < 8 * T::N ? pass.count : 8 * T::N;
    for (int i = static_cast<int>(threadIdx.x); i < count * T::value_dim; i += T::threads) {
      const int r = i / T::value_dim;
      float reference = nothing_seen, sum = 0, out = 0;
      TERSEKV_UNROLL
      for (int w = 0; w < T::warps; ++w) {
        const float x = sums(w, r).x;
        reference = x > reference ? x : reference;
      }
      TERSEKV_UNROLL
      for (int w = 0; w < T::warps; ++w) {
        const float2 one = sums(w, r);
        const float weight = exp2_fast(one.x - reference);
        sum += weight * one.y;
        out += weight * load_shared<float>(first + w * (T::warp_bytes / 4) + r * T::value_dim +
                                           state_place(r, i % T::value_dim));
      }
      const std::size_t part = a.plan.part(sequence, kv_head, split, pass.first + r);
      const auto channel = static_cast<std::size_t>(i % T::value_dim);
      store(a.out + part * T::value_dim + channel, out);
      if (channel == 0) store(a.sums + part, float2{reference, sum});
    }
  }
};

}  // namespace tersekv::detail
