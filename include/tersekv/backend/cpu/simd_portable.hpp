// SPDX-License-Identifier: Apache-2.0
// The vector operations of simd.hpp in plain C++: 8 lanes, loops that compilers turn into whatever they may use.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <tersekv/backend/cpu/isa.hpp>
#include <tersekv/number.hpp>

namespace tersekv::detail {
inline namespace TERSEKV_ISA {

struct simd {
  static constexpr int lanes = 8, registers = 8;
  static constexpr int origin = 0;  // the code that counts as zero in sums that begin with none()
  static constexpr int together = 1;
  static constexpr bool rounds_narrow = false;
  static constexpr bool weighs_sums = false;  // narrow sums of several scales are added up, then written
  static constexpr int pass_sizes[] = {4, 1};
  static constexpr int written_out = 1;  // quads whose products stand in a row without a loop
  static constexpr int streams = 1;      // pieces whose lines are asked for in turn
  using quad = single;
  struct f32 {
    float x[lanes];
  };
  struct raw {
    std::uint32_t x[lanes];
  };

  template <class F>
  static TERSEKV_INLINE f32 each(F&& f) {
    f32 out;
    for (int i = 0; i < lanes; ++i) out.x[i] = f(i);
    return out;
  }

  // --------------------------------------------------------------------------------------------------------- numbers
  static TERSEKV_INLINE void prefetch(const std::byte*) {}
  static TERSEKV_INLINE f32 zero() { return set(0); }
  static TERSEKV_INLINE f32 set(float x) {
    return each([&](int) { return x; });
  }
  template <class T>
  static TERSEKV_INLINE f32 load(const T* p) {
    return each([&](int i) { return to_float(p[i]); });
  }
  template <class T>
  static TERSEKV_INLINE f32 load_part(const T* p, int n) {
    return each([&](int i) { return i < n ? to_float(p[i]) : 0.0f; });
  }
  static TERSEKV_INLINE void store(float* p, f32 x) { std::memcpy(p, x.x, sizeof(x.x)); }
  static TERSEKV_INLINE f32 add(f32 a, f32 b) {
    return each([&](int i) { return a.x[i] + b.x[i]; });
  }
  static TERSEKV_INLINE f32 sub(f32 a, f32 b) {
    return each([&](int i) { return a.x[i] - b.x[i]; });
  }
  static TERSEKV_INLINE f32 mul(f32 a, f32 b) {
    return each([&](int i) { return a.x[i] * b.x[i]; });
  }
  static TERSEKV_INLINE f32 div(f32 a, f32 b) {
    return each([&](int i) { return a.x[i] / b.x[i]; });
  }
  static TERSEKV_INLINE f32 fma(f32 a, f32 b, f32 c) {
    return each([&](int i) { return a.x[i] * b.x[i] + c.x[i]; });
  }
  static TERSEKV_INLINE f32 max(f32 a, f32 b) {
    return each([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
  }
  static TERSEKV_INLINE f32 min(f32 a, f32 b) {
    return each([&](int i) { return a.x[i] < b.x[i] ? a.x[i] : b.x[i]; });
  }
  static TERSEKV_INLINE f32 round(f32 x) {
    return each([&](int i) { return (x.x[i] + 12582912.0f) - 12582912.0f; });
  }
  static TERSEKV_INLINE f32 magnitude(f32 x) {
    return each([&](int i) { return x.x[i] < 0 ? -x.x[i] : x.x[i]; });
  }
  static TERSEKV_INLINE f32 larger_size(f32 a, f32 b) { return max(magnitude(a), magnitude(b)); }
  static TERSEKV_INLINE float sum(f32 x) {
    return ((x.x[0] + x.x[4]) + (x.x[2] + x.x[6])) + ((x.x[1] + x.x[5]) + (x.x[3] + x.x[7]));
  }
  template <int N>
  static TERSEKV_INLINE void sums(const f32 (&x)[N], float* to) {
    for (int i = 0; i < N; ++i) to[i] = sum(x[i]);
  }
  template <int N>
  static TERSEKV_INLINE void largests(const f32 (&x)[N], float* to) {
    for (int i = 0; i < N; ++i) to[i] = largest(x[i]);
  }
  static TERSEKV_INLINE float largest(f32 x) {
    float m = x.x[0];
    for (int i = 1; i < lanes; ++i) m = x.x[i] > m ? x.x[i] : m;
    return m;
  }
  static TERSEKV_INLINE f32 sums_across(const f32* x) {
    return each([&](int i) {
      const float* quad = x[i % 4].x + i / 4 * 4;
      return (quad[0] + quad[1]) + (quad[2] + quad[3]);
    });
  }
  static TERSEKV_INLINE f32 largests_across(const f32* x) {
    return each([&](int i) {
      const float* quad = x[i % 4].x + i / 4 * 4;
      return *std::max_element(quad, quad + 4);
    });
  }
  template <class Join>
  static TERSEKV_INLINE f32 quads(const f32* x, Join&& f) {
    return each([&](int i) { return f(x[i / 4].x[i % 4], x[i / 4].x[i % 4 + 4]); });
  }
  template <int R, class Join>
  static TERSEKV_INLINE f32 repeat(f32 x, Join&& f) {
    return R <= 4 ? each([&](int i) { return f(x.x[i % 4], x.x[i % 4 + 4]); }) : x;
  }
  static TERSEKV_INLINE void store_quad(float* p, f32 x) { std::memcpy(p, x.x, 4 * sizeof(float)); }
  static TERSEKV_INLINE f32 select(std::uint32_t bits, f32 x, f32 y) {
    return each([&](int i) { return (bits >> i & 1u) != 0 ? x.x[i] : y.x[i]; });
  }
  static TERSEKV_INLINE std::uint32_t between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    std::uint32_t bits = 0;
    for (int i = 0; i < lanes; ++i) bits |= (p[i] >= low && p[i] <= high ? 1u : 0u) << i;
    return bits;
  }
  template <int N>
  static TERSEKV_INLINE bool all_between(const std::int32_t* p, std::int32_t low, std::int32_t high) {
    bool all = true;
    for (int i = 0; i < N; ++i) all = all && p[i] >= low && p[i] <= high;
    return all;
  }
  /// 2^x for x <= 0; 2^-125 for everything below.
  template <class Powers>
  static TERSEKV_INLINE f32 exp2(f32 v) {
    return each([&](int i) {
      const float x = v.x[i] > -125.0f ? v.x[i] : -125.0f;
      const float n = x + 12582912.0f, r = x - (n - 12582912.0f);  // 1.5 * 2^23 rounds to an integer
      float p = 0;
      for (const float term : Powers::terms) p = p * r + term;
      return bit_cast<float>(bit_cast<std::uint32_t>(p) + (bit_cast<std::uint32_t>(n) << 23));
    });
  }

  // ----------------------------------------------------------------------------------------------------------- codes
  static TERSEKV_INLINE raw load_raw(const std::byte* p) {
    raw out;
    std::memcpy(out.x, p, sizeof(out.x));
    return out;
  }
  template <int Width, int K>
  static TERSEKV_INLINE raw field(raw x) {
    for (int i = 0; i < lanes; ++i) x.x[i] = x.x[i] >> (Width * K) & ((1u << Width) - 1) * 0x01010101u;
    return x;
  }
  template <int Low>
  static TERSEKV_INLINE raw join(raw x, raw high) {
    for (int i = 0; i < lanes; ++i) x.x[i] |= high.x[i] << Low;
    return x;
  }
  static TERSEKV_INLINE raw lookup(raw x, const std::int8_t* table) {
    for (int i = 0; i < lanes; ++i) {
      std::uint32_t out = 0;
      for (int b = 0; b < 32; b += 8)
        out |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(table[x.x[i] >> b & 15u] + 128)) << b;
      x.x[i] = out;
    }
    return x;
  }

  using begin_words = start_words;

  template <class Int, int Largest>
  struct products {
    static constexpr int largest_factor = Largest;
    static constexpr bool full_range = true;
    static constexpr int quads(int) { return 64; }
    static constexpr int row_bytes(int quads) { return quads * quad_bytes(0); }
    static constexpr int quad_bytes(int) { return 4 * static_cast<int>(sizeof(Int)); }
    static constexpr std::size_t bytes(int quads, int rows) {
      return static_cast<std::size_t>(rows * row_bytes(quads));
    }
    struct acc {
      std::int32_t x[lanes];
    };
    struct factor {
      std::int32_t x[4];
    };
    template <class Number>
    static TERSEKV_INLINE acc write(Number&& number, std::byte* to, int, int) {
      acc sum = none();
      for (int c = 0; c < 32; c += lanes) {
        const f32 x = number(c / lanes);
        for (int i = 0; i < lanes; ++i) {
          const float n = x.x[i] + 12582912.0f;  // 1.5 * 2^23 rounds to an integer
          const auto k = static_cast<std::int32_t>(bit_cast<std::uint32_t>(n) - 0x4b400000u);
          const auto small = static_cast<Int>(k);
          sum.x[i] += k;
          std::memcpy(to + static_cast<std::size_t>(c + i) * sizeof(Int), &small, sizeof(Int));
        }
      }
      return sum;
    }
    static TERSEKV_INLINE start_words added(acc sum) {
      start_words all;
      for (const std::int32_t x : sum.x) all.word[0] += x;
      return all;
    }
    static TERSEKV_INLINE start_words centred(const start_words& sum, int offset) {
      return {{-offset * sum.word[0], 0}};
    }
    static TERSEKV_INLINE acc plus(acc a, acc b) {
      for (int i = 0; i < lanes; ++i) a.x[i] += b.x[i];
      return a;
    }
    static TERSEKV_INLINE acc none() { return {}; }
    static TERSEKV_INLINE acc start(const start_words& s) {
      acc a;
      for (int i = 0; i < lanes; ++i) a.x[i] = s.word[0];
      return a;
    }
    static TERSEKV_INLINE factor load(const std::byte* p, int) {
      Int x[4];
      std::memcpy(x, p, sizeof(x));
      return {{x[0], x[1], x[2], x[3]}};
    }
    static TERSEKV_INLINE acc product(raw codes, factor f) { return dot(none(), codes, f); }
    static TERSEKV_INLINE acc begin(const begin_words& s, raw codes, factor f) { return dot(start(s), codes, f); }
    static TERSEKV_INLINE acc dot(acc a, raw codes, factor f) {
      for (int i = 0; i < lanes; ++i)
        a.x[i] += static_cast<std::int32_t>(codes.x[i] & 255u) * f.x[0] +
                  static_cast<std::int32_t>(codes.x[i] >> 8 & 255u) * f.x[1] +
                  static_cast<std::int32_t>(codes.x[i] >> 16 & 255u) * f.x[2] +
                  static_cast<std::int32_t>(codes.x[i] >> 24) * f.x[3];
      return a;
    }
    static TERSEKV_INLINE f32 value(acc a) {
      return each([&](int i) { return static_cast<float>(a.x[i]); });
    }
  };
  using narrow = products<std::int8_t, 127>;
  using wide = products<std::int16_t, 32512>;
};

}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
