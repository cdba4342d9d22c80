// SPDX-License-Identifier: Apache-2.0
// The vector operations of simd.hpp for AVX2 with FMA and F16C: 8 lanes. Narrow products are added in 16 bit, two sums
// to a lane, and widened when they are read; wide ones multiply in 16 bit.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include <tersekv/backend/cpu/simd_sse.hpp>
#include <tersekv/number.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

struct simd {
  static constexpr int lanes = 8, registers = 16;
  static constexpr int origin = 0;                   // the code that counts as zero in sums that begin with none()
  static constexpr int together = 1;                 // factors are operands in memory
  static constexpr bool rounds_narrow = true;        // products of 8-bit factors are cheaper than of 16-bit ones
  static constexpr bool weighs_sums = true;          // narrow sums of several scales are added up, then written
  static constexpr int pass_sizes[] = {8, 4, 2, 1};  // rows of queries that kernels are made for
  static constexpr int written_out = 32;             // quads whose products stand in a row without a loop
  static constexpr int streams = 1;                  // pieces whose lines are asked for in turn
  using f32 = __m256;
  using quad = four_lanes;
  using raw = __m256i;

  // --------------------------------------------------------------------------------------------------------- numbers
  static TERSEKV_INLINE void prefetch(const std::byte* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1);
  }
  static TERSEKV_INLINE f32 zero() { return _mm256_setzero_ps(); }
  static TERSEKV_INLINE f32 set(float x) { return _mm256_set1_ps(x); }
  static TERSEKV_INLINE f32 load(const float* p) { return _mm256_loadu_ps(p); }
  static TERSEKV_INLINE f32 load(const half* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static TERSEKV_INLINE f32 load(const bfloat16* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  template <class T>
  static TERSEKV_INLINE f32 load_part(const T* p, int n) {
    T all[lanes] = {};
    std::memcpy(all, p, sizeof(T) * static_cast<std::size_t>(n));
    return load(all);
  }
  static TERSEKV_INLINE void store(float* p, f32 x) { _mm256_storeu_ps(p, x); }
  static TERSEKV_INLINE f32 add(f32 a, f32 b) { return _mm256_add_ps(a, b); }
  static TERSEKV_INLINE f32 sub(f32 a, f32 b) { return _mm256_sub_ps(a, b); }
  static TERSEKV_INLINE f32 mul(f32 a, f32 b) { return _mm256_mul_ps(a, b); }
  static TERSEKV_INLINE f32 div(f32 a, f32 b) { return _mm256_div_ps(a, b); }
  static TERSEKV_INLINE f32 fma(f32 a, f32 b, f32 c) { return _mm256_fmadd_ps(a, b, c); }
  static TERSEKV_INLINE f32 max(f32 a, f32 b) { return _mm256_max_ps(a, b); }
  static TERSEKV_INLINE f32 min(f32 a, f32 b) { return _mm256_min_ps(a, b); }
  static TERSEKV_INLINE f32 round(f32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static TERSEKV_INLINE f32 magnitude(f32 x) { return _mm256_andnot_ps(set(-0.0f), x); }
  static TERSEKV_INLINE f32 larger_size(f32 a, f32 b) { return max(magnitude(a), magnitude(b)); }
  static TERSEKV_INLINE float sum(f32 x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static TERSEKV_INLINE void sums(const f32 (&x)[4], float* to) { store_quad(to, repeat<4>(sums_across(x), add)); }
  static TERSEKV_INLINE void sums(const f32 (&x)[2], float* to) {
    const f32 h = _mm256_hadd_ps(x[0], x[1]);
    const __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    _mm_storel_pi(reinterpret_cast<__m64*>(to), _mm_hadd_ps(s, s));
  }
  static TERSEKV_INLINE void sums(const f32 (&x)[1], float* to) { to[0] = sum(x[0]); }
  static TERSEKV_INLINE void sums(const f32 (&x)[8], float* to) {
    sums({x[0], x[1], x[2], x[3]}, to);
    sums({x[4], x[5], x[6], x[7]}, to + 4);
  }
  static TERSEKV_INLINE void largests(const f32 (&x)[4], float* to) {
    store_quad(to, repeat<4>(largests_across(x), max));
  }
  static TERSEKV_INLINE f32 sums_across(const f32* x) {
    return _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
  }
  static TERSEKV_INLINE f32 largests_across(const f32* x) {
    const f32 a = max(_mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1]));  // 0 1 0 1
    const f32 b = max(_mm256_unpacklo_ps(x[2], x[3]), _mm256_unpackhi_ps(x[2], x[3]));  // 2 3 2 3
    return max(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));           // 0 1 2 3
  }
  template <class Join>
  static TERSEKV_INLINE f32 quads(const f32* x, Join&& f) {
    return f(_mm256_permute2f128_ps(x[0], x[1], 0x20), _mm256_permute2f128_ps(x[0], x[1], 0x31));
  }
  template <int R, class Join>
  static TERSEKV_INLINE f32 repeat(f32 x, Join&& f) {
    return R <= 4 ? f(x, _mm256_permute2f128_ps(x, x, 1)) : x;
  }
  static TERSEKV_INLINE void store_quad(float* p, f32 x) { _mm_storeu_ps(p, _mm256_castps256_ps128(x)); }
  template <int N>
  static TERSEKV_INLINE void largests(const f32 (&x)[N], float* to) {
    for (int i = 0; i < N; ++i) to[i] = largest(x[i]);
  }
  static TERSEKV_INLINE float largest(f32 x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }
  static TERSEKV_INLINE f32 select(std::uint32_t bits, f32 x, f32 y) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i on = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), bit), bit);
    return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(on));
  }
  static TERSEKV_INLINE std::uint32_t between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i out =
        _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low), x), _mm256_cmpgt_epi32(x, _mm256_set1_epi32(high)));
    return ~static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(out))) & 0xffu;
  }
  template <int N>
  static TERSEKV_INLINE bool all_between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    const auto load = [&](int i) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i * lanes)); };
    __m256i least = load(0), most = least;
    each<N / lanes - 1>([&](auto i) TERSEKV_INLINED {
      least = _mm256_min_epi32(least, load(i + 1));
      most = _mm256_max_epi32(most, load(i + 1));
    });
    const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low), least),
                                        _mm256_cmpgt_epi32(most, _mm256_set1_epi32(high)));
    return _mm256_testz_si256(out, out) != 0;
  }
  /// 2^x for x <= 0; 2^-125 for everything below.
  template <class Powers>
  static TERSEKV_INLINE f32 exp2(f32 x) {
    x = max(x, set(-125.0f));
    const __m256i k = _mm256_cvtps_epi32(x);
    const f32 p = sum_of_powers<Powers, simd>(sub(x, _mm256_cvtepi32_ps(k)));
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(k, 23)));
  }

  // ----------------------------------------------------------------------------------------------------------- codes
  static TERSEKV_INLINE raw load_raw(const std::byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  template <int Width, int K>
  static TERSEKV_INLINE raw field(raw x) {
    if constexpr (Width == 8) return x;
    const raw shifted = K == 0 ? x : _mm256_srli_epi16(x, Width * K);
    return _mm256_and_si256(shifted, _mm256_set1_epi8(static_cast<char>((1 << Width) - 1)));
  }
  /// Quads of codes of four bits, or of two bits where they lie in their bytes: codes of odd quads stay four times as
  /// large. Fields share a shift (a product, which may read memory) and none is loaded first: three instructions for
  /// two quads instead of four, five for four instead of eight.
  template <int Bits>
  struct fields_in_memory {
    const std::byte* at;
    raw high;
    fields_in_memory() = default;
    explicit TERSEKV_INLINE fields_in_memory(const std::byte* p)
        : at(p), high(_mm256_mulhi_epu16(load_raw(p), _mm256_set1_epi16(1 << 12))) {}
    template <int K>
    TERSEKV_INLINE raw field() const {
      constexpr int in_half = 4 / Bits;  // fields of half a byte
      const raw mask = _mm256_set1_epi8(static_cast<char>(((1 << Bits) - 1) << K % in_half * Bits));
      return K < in_half ? and_of(mask, at) : _mm256_and_si256(mask, high);
    }
  };
  template <int Low>
  static TERSEKV_INLINE raw join(raw x, raw high) {
    return _mm256_or_si256(x, _mm256_slli_epi16(high, Low));
  }
  static TERSEKV_INLINE raw lookup(raw x, const std::int8_t* table) {
    const __m128i t = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), _mm_set1_epi8(-128));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t), x);
  }

  /// What sums begin with, in every lane: an operand in memory.
  struct begin_words {
    alignas(32) int word[lanes];
    begin_words() = default;
    TERSEKV_INLINE begin_words(const start_words& s) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(word), _mm256_set1_epi32(s.word[0]));
    }
    TERSEKV_INLINE __m256i all() const { return _mm256_load_si256(reinterpret_cast<const __m256i*>(word)); }
  };

  /// Codes of up to 6 bits, factors of 7 bits and a sign. Factors [quads][rows], each spread over a vector: operands in
  /// memory.
  struct narrow {
    static constexpr int largest_factor = 127;
    static constexpr bool full_range = false;
    /// Every quad adds two products to a 16-bit sum; centred codes are at most `offset`.
    static constexpr int largest_sum = 32767;
    static constexpr int quads(int offset) { return largest_sum / (2 * 127 * offset); }
    static constexpr int row_bytes(int) { return 32; }
    static constexpr int quad_bytes(int rows) { return 32 * rows; }
    static constexpr std::size_t bytes(int quads, int rows) { return static_cast<std::size_t>(32 * quads * rows); }
    using acc = __m256i;
    using factor = __m256i;
    /// Codes of two bits keep two places in their bytes, where registers hold two sums for every row.
    static constexpr int places(int bits, int rows) { return bits == 2 && rows <= 4 ? 2 : 1; }
    template <int Bits, int Places>
    requires(Bits == 4 || (Bits == 2 && Places == 2)) using fields = fields_in_memory<Bits>;
    static TERSEKV_INLINE acc whole(acc even, acc odd) { return add16(even, _mm256_srai_epi16(odd, 2)); }
    /// Sums of positive products may use all 16 bits.
    static TERSEKV_INLINE acc whole_positive(acc even, acc odd) { return add16(even, _mm256_srli_epi16(odd, 2)); }
    template <class Number>
    static TERSEKV_INLINE acc write(Number&& number, std::byte* to, int, int rows) {
      __m256i n[4];
      each<4>([&](auto i) TERSEKV_INLINED { n[i] = _mm256_cvtps_epi32(number(i)); });
      const __m256i all = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
      std::int32_t quad[8];  // even ones, then odd ones
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(quad), all);
      settle(quad);
      each<8>([&](auto q) TERSEKV_INLINED {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (q % 4 * 2 + q / 4) * quad_bytes(rows)),
                            _mm256_set1_epi32(quad[q]));
      });
      return _mm256_maddubs_epi16(_mm256_set1_epi8(1), all);
    }
    /// Pairs: of numbers 0 and 1, of 2 and 3 of all quads.
    static TERSEKV_INLINE start_words added(acc sum) {
      __m128i s = _mm_add_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
      s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0x4e));
      s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0xb1));
      return {{_mm_cvtsi128_si32(s), 0}};
    }
    static TERSEKV_INLINE start_words centred(const start_words& sum, int offset) {
      const auto low = static_cast<std::uint16_t>(-offset * static_cast<std::int16_t>(sum.word[0]));
      const auto high = static_cast<std::uint16_t>(-offset * (sum.word[0] >> 16));
      return {{static_cast<int>(low | static_cast<std::uint32_t>(high) << 16), 0}};
    }
    /// Of up to 128 numbers each.
    static TERSEKV_INLINE f32 sums_across(const acc* x) {
      const __m256i pairs = _mm256_hadd_epi16(_mm256_hadd_epi16(x[0], x[1]), _mm256_hadd_epi16(x[2], x[3]));
      return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    static TERSEKV_INLINE acc plus(acc a, acc b) { return add16(a, b); }
    static TERSEKV_INLINE acc none() { return _mm256_setzero_si256(); }
    static TERSEKV_INLINE acc start(const begin_words& s) { return s.all(); }
    static TERSEKV_INLINE factor load(const std::byte* p, int) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static TERSEKV_INLINE acc product(raw codes, factor f) { return _mm256_maddubs_epi16(codes, f); }
    static TERSEKV_INLINE acc begin(const begin_words& s, raw codes, factor f) { return add16(product(codes, f), s); }
    static TERSEKV_INLINE acc dot(acc a, raw codes, factor f) { return add16(a, product(codes, f)); }
    static TERSEKV_INLINE f32 value(acc a) { return _mm256_cvtepi32_ps(_mm256_madd_epi16(a, _mm256_set1_epi16(1))); }

    /// Up to `units` 16-bit sums in one of 32 bits, each times an integer.
    using weighed = __m256i;
    struct alignas(32) part {
      std::int32_t of[lanes];  // an operand in memory
    };
    static constexpr int largest_part(int units) { return 32768 / units; }
    template <int Units, int Rows>
    static TERSEKV_INLINE void store_parts(const float (&parts)[Units * Rows], part (&to)[Units][Rows]) {
      constexpr int all = Units * Rows, whole = all / lanes * lanes;
      alignas(32) std::int32_t n[all];
      each<whole / lanes>([&](auto i) TERSEKV_INLINED {
        _mm256_store_si256(reinterpret_cast<__m256i*>(n + i * lanes),
                           _mm256_cvtps_epi32(_mm256_load_ps(parts + i * lanes)));
      });
      for (int i = whole; i < all; ++i) n[i] = _mm_cvtss_si32(_mm_set_ss(parts[i]));
      settle(n);
      each<all>([&](auto i) TERSEKV_INLINED {
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[i / Rows][i % Rows].of),
                           _mm256_set1_epi16(static_cast<std::int16_t>(n[i])));
      });
    }
    static TERSEKV_INLINE weighed weigh(acc a, const part& x) { return madd_of(a, x.of); }
    static TERSEKV_INLINE weighed add_weighed(weighed sum, acc a, const part& x) { return add32(sum, weigh(a, x)); }
    static TERSEKV_INLINE f32 weighed_value(weighed sum) { return _mm256_cvtepi32_ps(sum); }
  };
  /// Codes of 8 bits, factors of 15 bits and a sign: numbers 0 and 2 of a quad, then 1 and 3, each spread over a
  /// vector.
  struct wide {
    static constexpr int largest_factor = 32512;
    static constexpr int quads(int) { return 64; }
    static constexpr int row_bytes(int) { return 64; }
    static constexpr int quad_bytes(int rows) { return 64 * rows; }
    static constexpr std::size_t bytes(int quads, int rows) { return static_cast<std::size_t>(64 * quads * rows); }
    using acc = __m256i;
    struct factor {
      __m256i even, odd;
    };
    template <class Number>
    static TERSEKV_INLINE acc write(Number&& number, std::byte* to, int, int rows) {
      const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3, 6,
                                             7, 8, 9, 12, 13, 10, 11, 14, 15);
      acc sum = none();
      each<2>([&](auto half) TERSEKV_INLINED {
        const __m256i a = _mm256_cvtps_epi32(number(2 * half)), b = _mm256_cvtps_epi32(number(2 * half + 1));
        sum = add32(sum, _mm256_add_epi32(a, b));
        std::int32_t pair[8];  // even, odd of quads 0, 2, 1, 3
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(pair), _mm256_shuffle_epi8(_mm256_packs_epi32(a, b), order));
        each<4>([&](auto q) TERSEKV_INLINED {
          each<2>([&](auto i) TERSEKV_INLINED {
            _mm256_storeu_si256(
                reinterpret_cast<__m256i*>(to + (4 * half + q % 2 * 2 + q / 2) * quad_bytes(rows) + 32 * i),
                _mm256_set1_epi32(pair[2 * q + i]));
          });
        });
      });
      return sum;
    }
    static TERSEKV_INLINE start_words added(acc sum) {
      __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
      s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
      return {{_mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1))), 0}};
    }
    static TERSEKV_INLINE start_words centred(const start_words& sum, int offset) {
      return {{-offset * sum.word[0], 0}};
    }
    static TERSEKV_INLINE acc plus(acc a, acc b) { return add32(a, b); }
    static TERSEKV_INLINE acc none() { return _mm256_setzero_si256(); }
    static TERSEKV_INLINE acc start(const begin_words& s) { return s.all(); }
    static TERSEKV_INLINE factor load(const std::byte* p, int) {
      const auto* v = reinterpret_cast<const __m256i*>(p);
      return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
    }
    static TERSEKV_INLINE acc dot(acc a, raw codes, factor f) {
      const __m256i even = _mm256_and_si256(codes, _mm256_set1_epi16(0xff)), odd = _mm256_srli_epi16(codes, 8);
      return add32(add32(a, _mm256_madd_epi16(even, f.even)), _mm256_madd_epi16(odd, f.odd));
    }
    static TERSEKV_INLINE acc product(raw codes, factor f) { return dot(none(), codes, f); }
    static TERSEKV_INLINE acc begin(const begin_words& s, raw codes, factor f) { return dot(s.all(), codes, f); }
    static TERSEKV_INLINE f32 value(acc a) { return _mm256_cvtepi32_ps(a); }
  };

 private:
  // g++ reorders chains of integer additions, computes all products first and spills them; not so these.
#if defined(__GNUC__) && !defined(__clang__)
  static TERSEKV_INLINE __m256i and_of(__m256i a, const std::byte* b) {  // g++ would load b once, into a register
    __m256i both;
    __asm__("vpand %2, %1, %0" : "=x"(both) : "x"(a), "m"(*reinterpret_cast<const __m256i*>(b)));
    return both;
  }
  static TERSEKV_INLINE __m256i madd_of(__m256i a, const std::int32_t* b) {  // likewise
    __m256i sums;
    __asm__("vpmaddwd %2, %1, %0" : "=x"(sums) : "x"(a), "m"(*reinterpret_cast<const __m256i*>(b)));
    return sums;
  }
  static TERSEKV_INLINE __m256i add16(__m256i a, __m256i b) {
    __m256i sum;
    __asm__("vpaddw %2, %1, %0" : "=x"(sum) : "x"(a), "x"(b));
    return sum;
  }
  static TERSEKV_INLINE __m256i add16(__m256i a, const begin_words& b) {
    __m256i sum;
    __asm__("vpaddw %2, %1, %0" : "=x"(sum) : "x"(a), "m"(b));
    return sum;
  }
  static TERSEKV_INLINE __m256i add32(__m256i a, __m256i b) {
    __m256i sum;
    __asm__("vpaddd %2, %1, %0" : "=x"(sum) : "x"(a), "x"(b));
    return sum;
  }
#else
  static TERSEKV_INLINE __m256i and_of(__m256i a, const std::byte* b) { return _mm256_and_si256(a, load_raw(b)); }
  static TERSEKV_INLINE __m256i madd_of(__m256i a, const std::int32_t* b) {
    return _mm256_madd_epi16(a, _mm256_load_si256(reinterpret_cast<const __m256i*>(b)));
  }
  static TERSEKV_INLINE __m256i add16(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
  static TERSEKV_INLINE __m256i add16(__m256i a, const begin_words& b) { return _mm256_add_epi16(a, b.all()); }
  static TERSEKV_INLINE __m256i add32(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
#endif
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
