// SPDX-License-Identifier: Apache-2.0
// The vector operations of simd.hpp for 64-bit Arm with the dot product extension: 4 lanes.
#pragma once
#include <arm_neon.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <tersekv/backend/cpu/isa.hpp>
#include <tersekv/number.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

struct simd {
  static constexpr int lanes = 4, registers = 32;
  static constexpr int together = 4;                 // lane vectors for which a factor is loaded once
  static constexpr bool rounds_narrow = true;        // products of 8-bit factors are cheaper than of 16-bit ones
  static constexpr bool weighs_sums = false;         // narrow sums of several scales are added up, then written
  static constexpr int pass_sizes[] = {8, 4, 2, 1};  // rows of queries that kernels are made for
  static constexpr int written_out = 8;              // quads whose products stand in a row without a loop
  static constexpr int streams = 1;                  // pieces whose lines are asked for in turn
  using f32 = float32x4_t;
  using quad = single;
  using raw = uint8x16_t;

  // --------------------------------------------------------------------------------------------------------- numbers
  static TERSEKV_INLINE void prefetch(const std::byte* p) { __builtin_prefetch(p); }
  static TERSEKV_INLINE f32 zero() { return vdupq_n_f32(0); }
  static TERSEKV_INLINE f32 set(float x) { return vdupq_n_f32(x); }
  static TERSEKV_INLINE f32 load(const float* p) { return vld1q_f32(p); }
  static TERSEKV_INLINE f32 load(const half* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p))));
  }
  static TERSEKV_INLINE f32 load(const bfloat16* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p)), 16));
  }
  template <class T>
  static TERSEKV_INLINE f32 load_part(const T* p, int n) {
    T all[lanes] = {};
    std::memcpy(all, p, sizeof(T) * static_cast<std::size_t>(n));
    return load(all);
  }
  static TERSEKV_INLINE void store(float* p, f32 x) { vst1q_f32(p, x); }
  static TERSEKV_INLINE f32 add(f32 a, f32 b) { return vaddq_f32(a, b); }
  static TERSEKV_INLINE f32 sub(f32 a, f32 b) { return vsubq_f32(a, b); }
  static TERSEKV_INLINE f32 mul(f32 a, f32 b) { return vmulq_f32(a, b); }
  static TERSEKV_INLINE f32 div(f32 a, f32 b) { return vdivq_f32(a, b); }
  static TERSEKV_INLINE f32 fma(f32 a, f32 b, f32 c) { return vfmaq_f32(c, a, b); }
  static TERSEKV_INLINE f32 max(f32 a, f32 b) { return vmaxq_f32(a, b); }
  static TERSEKV_INLINE f32 min(f32 a, f32 b) { return vminq_f32(a, b); }
  static TERSEKV_INLINE f32 round(f32 x) { return vrndnq_f32(x); }
  static TERSEKV_INLINE f32 magnitude(f32 x) { return vabsq_f32(x); }
  static TERSEKV_INLINE f32 larger_size(f32 a, f32 b) { return max(magnitude(a), magnitude(b)); }
  static TERSEKV_INLINE float sum(f32 x) { return vaddvq_f32(x); }
  static TERSEKV_INLINE void sums(const f32 (&x)[4], float* to) { store(to, sums_across(x)); }
  template <int N>
  static TERSEKV_INLINE void sums(const f32 (&x)[N], float* to) {
    for (int i = 0; i < N; ++i) to[i] = sum(x[i]);
  }
  template <int N>
  static TERSEKV_INLINE void largests(const f32 (&x)[N], float* to) {
    for (int i = 0; i < N; ++i) to[i] = largest(x[i]);
  }
  static TERSEKV_INLINE void largests(const f32 (&x)[4], float* to) { store(to, largests_across(x)); }
  static TERSEKV_INLINE float largest(f32 x) { return vmaxvq_f32(x); }
  static TERSEKV_INLINE f32 sums_across(const f32* x) {
    return vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3]));
  }
  static TERSEKV_INLINE f32 largests_across(const f32* x) {
    return vpmaxq_f32(vpmaxq_f32(x[0], x[1]), vpmaxq_f32(x[2], x[3]));
  }
  template <class Join>
  static TERSEKV_INLINE f32 quads(const f32* x, Join&&) {
    return x[0];
  }
  template <int R, class Join>
  static TERSEKV_INLINE f32 repeat(f32 x, Join&&) {
    return x;
  }
  static TERSEKV_INLINE void store_quad(float* p, f32 x) { store(p, x); }
  static TERSEKV_INLINE f32 select(std::uint32_t bits, f32 x, f32 y) {
    const std::uint32_t bit[lanes] = {1, 2, 4, 8};
    return vbslq_f32(vtstq_u32(vdupq_n_u32(bits), vld1q_u32(bit)), x, y);
  }
  static TERSEKV_INLINE std::uint32_t between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    const std::uint32_t bit[lanes] = {1, 2, 4, 8};
    const int32x4_t x = vld1q_s32(p);
    const uint32x4_t in = vandq_u32(vcgeq_s32(x, vdupq_n_s32(low)), vcleq_s32(x, vdupq_n_s32(high)));
    return vaddvq_u32(vandq_u32(in, vld1q_u32(bit)));
  }
  template <int N>
  static TERSEKV_INLINE bool all_between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    int32x4_t least = vld1q_s32(p), most = least;
    each<N / lanes - 1>([&](auto i) TERSEKV_INLINED {
      least = vminq_s32(least, vld1q_s32(p + (i + 1) * lanes));
      most = vmaxq_s32(most, vld1q_s32(p + (i + 1) * lanes));
    });
    return vminvq_s32(least) >= low && vmaxvq_s32(most) <= high;
  }
  /// 2^x for x <= 0; 2^-125 for everything below.
  template <class Powers>
  static TERSEKV_INLINE f32 exp2(f32 x) {
    x = max(x, set(-125.0f));
    const int32x4_t k = vcvtnq_s32_f32(x);
    const f32 p = sum_of_powers<Powers, simd>(sub(x, vcvtq_f32_s32(k)));
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(k, 23)));
  }

  // ----------------------------------------------------------------------------------------------------------- codes
  static TERSEKV_INLINE raw load_raw(const std::byte* p) { return vld1q_u8(reinterpret_cast<const std::uint8_t*>(p)); }
  template <int Width, int K>
  static TERSEKV_INLINE raw field(raw x) {
    if constexpr (Width == 8)
      return x;
    else if constexpr (K == 0)
      return vandq_u8(x, vdupq_n_u8((1 << Width) - 1));
    else if constexpr (Width * (K + 1) == 8)
      return vshrq_n_u8(x, Width * K);
    else
      return vandq_u8(vshrq_n_u8(x, Width * K), vdupq_n_u8((1 << Width) - 1));
  }
  template <int Low>
  static TERSEKV_INLINE raw join(raw x, raw high) {
    return vorrq_u8(x, vshlq_n_u8(high, Low));
  }
  static TERSEKV_INLINE raw lookup(raw x, const std::int8_t* table) {
    return veorq_u8(vreinterpretq_u8_s8(vqtbl1q_s8(vld1q_s8(table), x)), vdupq_n_u8(128));
  }

  /// The instruction multiplies signed bytes: codes count as u - 128 in it.
  static TERSEKV_INLINE int8x16_t centred_codes(raw codes) {
    return vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(128)));
  }
  static constexpr int origin = 128;  // the code that counts as zero in sums that begin with none()

  using begin_words = start_words;

  struct narrow {
    static constexpr int largest_factor = 127;
    static constexpr bool full_range = true;
    static constexpr int quads(int) { return 64; }
    static constexpr int row_bytes(int quads) { return 4 * quads; }
    static constexpr int quad_bytes(int) { return 4; }
    static constexpr std::size_t bytes(int quads, int rows) { return static_cast<std::size_t>(4 * quads * rows); }
    using acc = int32x4_t;
    using factor = int8x16_t;
    static TERSEKV_INLINE void store_bytes(std::byte* to, int32x4_t n) {
      const int16x4_t h = vmovn_s32(n);
      const std::int32_t quad = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(h, h))), 0);
      std::memcpy(to, &quad, 4);
    }
    template <class Number>
    static TERSEKV_INLINE acc write(Number&& number, std::byte* to, int, int) {
      acc sum = none();
      each<8>([&](auto i) TERSEKV_INLINED {
        const int32x4_t n = vcvtnq_s32_f32(number(i));
        sum = vaddq_s32(sum, n);
        store_bytes(to + i * lanes, n);
      });
      return sum;
    }
    static TERSEKV_INLINE start_words added(acc sum) { return {{vaddvq_s32(sum), 0}}; }
    static TERSEKV_INLINE start_words centred(const start_words& sum, int offset) {
      return {{(origin - offset) * sum.word[0], 0}};
    }
    static TERSEKV_INLINE acc plus(acc a, acc b) { return vaddq_s32(a, b); }
    static TERSEKV_INLINE acc none() { return vdupq_n_s32(0); }
    static TERSEKV_INLINE acc start(const start_words& s) { return vdupq_n_s32(s.word[0]); }
    static TERSEKV_INLINE factor load(const std::byte* p, int) {
      std::int32_t x;
      std::memcpy(&x, p, 4);
      return vreinterpretq_s8_s32(vdupq_n_s32(x));
    }
    static TERSEKV_INLINE acc product(raw codes, factor f) { return dot(none(), codes, f); }
    static TERSEKV_INLINE acc begin(const begin_words& s, raw codes, factor f) { return dot(start(s), codes, f); }
    static TERSEKV_INLINE acc dot(acc a, raw codes, factor f) { return vdotq_s32(a, centred_codes(codes), f); }
    static TERSEKV_INLINE f32 value(acc a) { return vcvtq_f32_s32(a); }
  };
  /// Two parts of 8 bits. A row of factors: all high parts, then all low ones.
  struct wide {
    static constexpr int largest_factor = 32512;
    static constexpr int quads(int) { return 64; }
    static constexpr int row_bytes(int quads) { return 8 * quads; }
    static constexpr int quad_bytes(int) { return 4; }
    static constexpr std::size_t bytes(int quads, int rows) { return static_cast<std::size_t>(8 * quads * rows); }
    struct acc {
      int32x4_t high, low;
    };
    struct factor {
      int8x16_t high, low;
    };
    template <class Number>
    static TERSEKV_INLINE acc write(Number&& number, std::byte* to, int row, int) {
      acc sum = none();
      each<8>([&](auto i) TERSEKV_INLINED {
        const int32x4_t n = vcvtnq_s32_f32(number(i));
        const int32x4_t high = vshrq_n_s32(vaddq_s32(n, vdupq_n_s32(128)), 8);
        const int32x4_t low = vsubq_s32(n, vshlq_n_s32(high, 8));
        sum = {vaddq_s32(sum.high, high), vaddq_s32(sum.low, low)};
        narrow::store_bytes(to + i * lanes, high);
        narrow::store_bytes(to + i * lanes + row / 2, low);
      });
      return sum;
    }
    static TERSEKV_INLINE start_words added(acc sum) { return {{vaddvq_s32(sum.high), vaddvq_s32(sum.low)}}; }
    static TERSEKV_INLINE start_words centred(const start_words& sum, int offset) {
      return {{(origin - offset) * sum.word[0], (origin - offset) * sum.word[1]}};
    }
    static TERSEKV_INLINE acc plus(acc a, acc b) { return {vaddq_s32(a.high, b.high), vaddq_s32(a.low, b.low)}; }
    static TERSEKV_INLINE acc none() { return {narrow::none(), narrow::none()}; }
    static TERSEKV_INLINE acc start(const start_words& s) { return {vdupq_n_s32(s.word[0]), vdupq_n_s32(s.word[1])}; }
    static TERSEKV_INLINE factor load(const std::byte* p, int row) {
      return {narrow::load(p, 0), narrow::load(p + row / 2, 0)};
    }
    static TERSEKV_INLINE acc product(raw codes, factor f) { return dot(none(), codes, f); }
    static TERSEKV_INLINE acc begin(const begin_words& s, raw codes, factor f) { return dot(start(s), codes, f); }
    static TERSEKV_INLINE acc dot(acc a, raw codes, factor f) {
      const int8x16_t c = centred_codes(codes);
      return {vdotq_s32(a.high, c, f.high), vdotq_s32(a.low, c, f.low)};
    }
    static TERSEKV_INLINE f32 value(acc a) { return vfmaq_n_f32(vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high), 256.0f); }
  };
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
