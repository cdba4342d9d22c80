// SPDX-License-Identifier: Apache-2.0
// The vector operations of simd.hpp for AVX-512 with VNNI: 16 lanes, sums of four products in one instruction.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include <tersekv/backend/cpu/simd_sse.hpp>
#include <tersekv/number.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

struct simd {
  static constexpr int lanes = 16, registers = 32;
  static constexpr int origin = 0;                   // the code that counts as zero in sums that begin with none()
  static constexpr int together = 4;                 // lane vectors for which a factor is loaded once
  static constexpr bool rounds_narrow = true;        // products of 8-bit factors are cheaper than of 16-bit ones
  static constexpr bool weighs_sums = true;          // narrow sums of several scales are added up, then written
  static constexpr int pass_sizes[] = {8, 4, 2, 1};  // rows of queries that kernels are made for
  static constexpr int written_out = 8;              // quads whose products stand in a row without a loop
  static constexpr int streams = 4;                  // pieces whose lines are asked for in turn
  using f32 = __m512;
  using quad = four_lanes;
  using raw = __m512i;

  // --------------------------------------------------------------------------------------------------------- numbers
  static TERSEKV_INLINE void prefetch(const std::byte* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1);
  }
  static TERSEKV_INLINE f32 zero() { return _mm512_setzero_ps(); }
  static TERSEKV_INLINE f32 set(float x) { return _mm512_set1_ps(x); }
  static TERSEKV_INLINE f32 load(const float* p) { return _mm512_loadu_ps(p); }
  static TERSEKV_INLINE f32 load(const half* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TERSEKV_INLINE f32 load(const bfloat16* p) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  static TERSEKV_INLINE f32 load_part(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static TERSEKV_INLINE f32 load_part(const half* p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
  }
  static TERSEKV_INLINE f32 load_part(const bfloat16* p, int n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p)), 16));
  }
  static TERSEKV_INLINE void store(float* p, f32 x) { _mm512_storeu_ps(p, x); }
  static TERSEKV_INLINE f32 add(f32 a, f32 b) { return _mm512_add_ps(a, b); }
  static TERSEKV_INLINE f32 sub(f32 a, f32 b) { return _mm512_sub_ps(a, b); }
  static TERSEKV_INLINE f32 mul(f32 a, f32 b) { return _mm512_mul_ps(a, b); }
  static TERSEKV_INLINE f32 div(f32 a, f32 b) { return _mm512_div_ps(a, b); }
  static TERSEKV_INLINE f32 fma(f32 a, f32 b, f32 c) { return _mm512_fmadd_ps(a, b, c); }
  static TERSEKV_INLINE f32 max(f32 a, f32 b) { return _mm512_max_ps(a, b); }
  static TERSEKV_INLINE f32 min(f32 a, f32 b) { return _mm512_min_ps(a, b); }
  static TERSEKV_INLINE f32 round(f32 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static TERSEKV_INLINE f32 magnitude(f32 x) { return _mm512_abs_ps(x); }
  /// The larger one of sizes.
  static TERSEKV_INLINE f32 larger_size(f32 a, f32 b) { return _mm512_range_ps(a, b, 0b1011); }
  static TERSEKV_INLINE float sum(f32 x) { return _mm512_reduce_add_ps(x); }
  /// to[i] = sum of x[i].
  static TERSEKV_INLINE void sums(const f32 (&x)[4], float* to) { store_quad(to, repeat<4>(sums_across(x), add)); }
  template <int N>
  static TERSEKV_INLINE void sums(const f32 (&x)[N], float* to) {
    for (int i = 0; i < N; ++i) to[i] = sum(x[i]);
  }
  template <int N>
  static TERSEKV_INLINE void largests(const f32 (&x)[N], float* to) {
    for (int i = 0; i < N; ++i) to[i] = largest(x[i]);
  }
  static TERSEKV_INLINE void largests(const f32 (&x)[4], float* to) {
    store_quad(to, repeat<4>(largests_across(x), max));
  }
  static TERSEKV_INLINE float largest(f32 x) { return _mm512_reduce_max_ps(x); }
  static TERSEKV_INLINE f32 sums_across(const f32* x) { return across(x, add); }
  static TERSEKV_INLINE f32 largests_across(const f32* x) { return across(x, max); }
  template <class Join>
  static TERSEKV_INLINE f32 quads(const f32* x, Join&& f) {
    const auto half = [&](f32 y, f32 z) TERSEKV_INLINED {
      return f(_mm512_shuffle_f32x4(y, z, 0x88), _mm512_shuffle_f32x4(y, z, 0xdd));
    };
    return half(half(x[0], x[1]), half(x[2], x[3]));
  }
  template <int R, class Join>
  static TERSEKV_INLINE f32 repeat(f32 x, Join&& f) {
    if constexpr (R <= 8) x = f(x, _mm512_shuffle_f32x4(x, x, 0x4e));
    if constexpr (R <= 4) x = f(x, _mm512_shuffle_f32x4(x, x, 0xb1));
    return x;
  }
  static TERSEKV_INLINE void store_quad(float* p, f32 x) { _mm_storeu_ps(p, _mm512_castps512_ps128(x)); }
  /// x where the bit of the lane is set, otherwise y.
  static TERSEKV_INLINE f32 select(std::uint32_t bits, f32 x, f32 y) {
    return _mm512_mask_blend_ps(static_cast<__mmask16>(bits), y, x);
  }
  /// One bit per lane: low <= p[lane] <= high.
  static TERSEKV_INLINE std::uint32_t between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    const __m512i x = _mm512_loadu_si512(p);
    return _mm512_cmp_epi32_mask(x, _mm512_set1_epi32(low), _MM_CMPINT_NLT) &
           _mm512_cmp_epi32_mask(x, _mm512_set1_epi32(high), _MM_CMPINT_LE);
  }
  /// Whether all N numbers are: low <= p[i] <= high.
  template <int N>
  static TERSEKV_INLINE bool all_between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    __m512i least = _mm512_loadu_si512(p), most = least;
    each<N / lanes - 1>([&](auto i) TERSEKV_INLINED {
      const __m512i x = _mm512_loadu_si512(p + (i + 1) * lanes);
      least = _mm512_min_epi32(least, x);
      most = _mm512_max_epi32(most, x);
    });
    const __mmask16 in = _mm512_cmp_epi32_mask(least, _mm512_set1_epi32(low), _MM_CMPINT_NLT);
    return _mm512_mask_cmp_epi32_mask(in, most, _mm512_set1_epi32(high), _MM_CMPINT_LE) == 0xffff;
  }
  /// 2^x for x <= 0; exactly 0 for -inf.
  template <class Powers>
  static TERSEKV_INLINE f32 exp2(f32 x) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    const f32 p = sum_of_powers<Powers, simd>(_mm512_reduce_ps(x, nearest));  // of x less an integer; of -inf 0
    return _mm512_scalef_ps(p, _mm512_roundscale_ps(x, nearest));
  }

  // ----------------------------------------------------------------------------------------------------------- codes
  static TERSEKV_INLINE raw load_raw(const std::byte* p) { return _mm512_loadu_si512(p); }
  template <int Width, int K>
  static TERSEKV_INLINE raw field(raw x) {
    if constexpr (Width == 8) return x;
    const raw shifted = K == 0 ? x : _mm512_srli_epi16(x, Width * K);
    return _mm512_and_si512(shifted, _mm512_set1_epi8(static_cast<char>((1 << Width) - 1)));
  }
  template <int Low>
  static TERSEKV_INLINE raw join(raw x, raw high) {
    return _mm512_or_si512(x, _mm512_slli_epi16(high, Low));
  }
  /// table[x] + 128, byte by byte.
  static TERSEKV_INLINE raw lookup(raw x, const std::int8_t* table) {
    const __m128i t = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), x);
  }

  using begin_words = start_words;

  /// Codes of up to 8 bits, factors of 7 bits and a sign. A row of factors: its bytes.
  struct narrow {
    static constexpr int largest_factor = 127;
    static constexpr bool full_range = true;  // takes codes of 8 bits
    static constexpr int quads(int) { return 1 << 20; }
    static constexpr int row_bytes(int quads) { return 4 * quads; }
    static constexpr int quad_bytes(int) { return 4; }
    static constexpr std::size_t bytes(int quads, int rows) { return static_cast<std::size_t>(4 * quads * rows); }
    using acc = __m512i;
    using factor = __m512i;
    template <class Number>
    static TERSEKV_INLINE acc write(Number&& number, std::byte* to, int, int) {
      acc sum = none();
      each<2>([&](auto i) TERSEKV_INLINED {
        const __m512i n = _mm512_cvtps_epi32(number(i));
        sum = _mm512_add_epi32(sum, n);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * lanes), _mm512_cvtepi32_epi8(n));
      });
      return sum;
    }
    /// Four rows at once, `row` bytes apart: number(r, i) times times(r). The lanes r modulo 4 of what it returns hold
    /// the sum of row r.
    template <class Number, class Times>
    static TERSEKV_INLINE acc write_four(Number&& number, Times&& times, std::byte* to, int row) {
      acc sum[2];
      each<2>([&](auto two) TERSEKV_INLINED {
        byte_gatherer<0> factors;
        each<4>([&](auto n) TERSEKV_INLINED {
          constexpr int r = 2 * two + n / 2;
          factors.template take<n>(integer_in(number(r, n % 2), times(r), 0));
        });
        sum[two] = factors.store(to + 2 * two * row, row);
      });
      return sums_of_two(sum[0], sum[1]);
    }
    static TERSEKV_INLINE start_words added(acc sum) { return {{_mm512_reduce_add_epi32(sum), 0}}; }
    static TERSEKV_INLINE start_words centred(const start_words& sum, int offset) {
      return {{-offset * sum.word[0], 0}};
    }
    static TERSEKV_INLINE acc plus(acc a, acc b) { return _mm512_add_epi32(a, b); }
    static TERSEKV_INLINE acc none() { return _mm512_setzero_si512(); }
    static TERSEKV_INLINE acc start(const start_words& s) { return _mm512_set1_epi32(s.word[0]); }
    static TERSEKV_INLINE factor load(const std::byte* p, int) {
      std::int32_t x;
      std::memcpy(&x, p, 4);
      return _mm512_set1_epi32(x);
    }
    static TERSEKV_INLINE acc product(raw codes, factor f) { return dot(none(), codes, f); }
    static TERSEKV_INLINE acc begin(const begin_words& s, raw codes, factor f) { return dot(start(s), codes, f); }
    static TERSEKV_INLINE acc dot(acc a, raw codes, factor f) { return _mm512_dpbusd_epi32(a, codes, f); }
    static TERSEKV_INLINE f32 value(acc a) { return _mm512_cvtepi32_ps(a); }

    /// Sums of several units, each times a number: of one unit and row of the query.
    using weighed = f32;
    using part = float;
    static constexpr int largest_part(int) { return 1; }
    template <int Units, int Rows>
    static TERSEKV_INLINE void store_parts(const float (&parts)[Units * Rows], part (&to)[Units][Rows]) {
      std::memcpy(to, parts, sizeof to);
    }
    static TERSEKV_INLINE weighed weigh(acc a, const part& x) { return mul(value(a), set(x)); }
    static TERSEKV_INLINE weighed add_weighed(weighed sum, acc a, const part& x) { return fma(value(a), set(x), sum); }
    static TERSEKV_INLINE f32 weighed_value(weighed sum) { return sum; }
  };
  /// Factors of 15 bits and a sign, as two parts of 8 bits. A row of factors: all high parts, then all low ones.
  struct wide {
    static constexpr int largest_factor = 32512;
    static constexpr int quads(int) { return 64; }
    static constexpr int row_bytes(int quads) { return 8 * quads; }
    static constexpr int quad_bytes(int) { return 4; }
    static constexpr std::size_t bytes(int quads, int rows) { return static_cast<std::size_t>(8 * quads * rows); }
    struct acc {
      __m512i high, low;
    };
    struct factor {
      __m512i high, low;
    };
    template <class Number>
    static TERSEKV_INLINE acc write(Number&& number, std::byte* to, int row, int) {
      acc sum = none();
      each<2>([&](auto i) TERSEKV_INLINED {
        const __m512i n = _mm512_cvtps_epi32(number(i));
        const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(128)), 8);
        const __m512i low = _mm512_sub_epi32(n, _mm512_slli_epi32(high, 8));
        sum = {_mm512_add_epi32(sum.high, high), _mm512_add_epi32(sum.low, low)};
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * lanes), _mm512_cvtepi32_epi8(high));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * lanes + row / 2), _mm512_cvtepi32_epi8(low));
      });
      return sum;
    }
    template <class Number, class Times>
    static TERSEKV_INLINE acc write_four(Number&& number, Times&& times, std::byte* to, int row) {
      acc sum[2];
      each<2>([&](auto two) TERSEKV_INLINED {
        byte_gatherer<0> low;
        byte_gatherer<1> high;
        each<4>([&](auto n) TERSEKV_INLINED {
          constexpr int r = 2 * two + n / 2;
          const raw y = integer_in(number(r, n % 2), times(r), 128);  // so that low parts have signs, too
          low.template take<n>(y);
          high.template take<n>(y);
        });
        low.x = _mm512_xor_si512(low.x, _mm512_set1_epi8(-128));
        sum[two] = {high.store(to + 2 * two * row, row), low.store(to + 2 * two * row + row / 2, row)};
      });
      return {sums_of_two(sum[0].high, sum[1].high), sums_of_two(sum[0].low, sum[1].low)};
    }
    static TERSEKV_INLINE start_words added(acc sum) {
      return {{_mm512_reduce_add_epi32(sum.high), _mm512_reduce_add_epi32(sum.low)}};
    }
    static TERSEKV_INLINE start_words centred(const start_words& sum, int offset) {
      return {{-offset * sum.word[0], -offset * sum.word[1]}};
    }
    static TERSEKV_INLINE acc plus(acc a, acc b) {
      return {_mm512_add_epi32(a.high, b.high), _mm512_add_epi32(a.low, b.low)};
    }
    static TERSEKV_INLINE acc none() { return {narrow::none(), narrow::none()}; }
    static TERSEKV_INLINE acc start(const start_words& s) {
      return {_mm512_set1_epi32(s.word[0]), _mm512_set1_epi32(s.word[1])};
    }
    static TERSEKV_INLINE factor load(const std::byte* p, int row) {
      return {narrow::load(p, 0), narrow::load(p + row / 2, 0)};
    }
    static TERSEKV_INLINE acc product(raw codes, factor f) { return dot(none(), codes, f); }
    static TERSEKV_INLINE acc begin(const begin_words& s, raw codes, factor f) { return dot(start(s), codes, f); }
    static TERSEKV_INLINE acc dot(acc a, raw codes, factor f) {
      return {_mm512_dpbusd_epi32(a.high, codes, f.high), _mm512_dpbusd_epi32(a.low, codes, f.low)};
    }
    static TERSEKV_INLINE f32 value(acc a) {
      return fma(_mm512_cvtepi32_ps(a.high), set(256.0f), _mm512_cvtepi32_ps(a.low));
    }
  };

 private:
  template <class Join>
  static TERSEKV_INLINE f32 across(const f32* x, Join&& f) {
    const f32 a = f(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));  // 0 1 0 1
    const f32 b = f(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));  // 2 3 2 3
    return f(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));           // 0 1 2 3
  }
  /// The lowest 16 bits: x times `times`, rounded, plus an integer.
  static TERSEKV_INLINE raw integer_in(f32 x, f32 times, int plus) {
    return _mm512_castps_si512(fma(x, times, set(12582912.0f + static_cast<float>(plus))));
  }
  /// Byte `Byte` of 16 integers each of four vectors: of two rows.
  template <int Byte>
  struct byte_gatherer {
    raw x;  // quad q of lanes: the quads q of all four
    template <int N>
    TERSEKV_INLINE void take(raw integers) {
      const raw bytes = _mm512_set1_epi32(0x0c080400 + 0x01010101 * Byte);
      if constexpr (N == 0)
        x = _mm512_shuffle_epi8(integers, bytes);
      else
        x = _mm512_mask_shuffle_epi8(x, 0x000f000f000f000full << (4 * N), integers, bytes);
    }
    /// Their sums: lanes 0 and 1 of every quad of the first row, 2 and 3 of the second.
    TERSEKV_INLINE __m512i store(std::byte* to, int row) const {
      const raw order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      const raw rows = _mm512_permutexvar_epi32(order, x);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(rows));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + row), _mm512_extracti64x4_epi64(rows, 1));
      return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), x);
    }
  };
  /// Of rows 0 and 1, and of rows 2 and 3: lane r of every quad of row r.
  static TERSEKV_INLINE __m512i sums_of_two(__m512i a, __m512i b) {
    const f32 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
  }
  static TERSEKV_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1); }
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
