// SPDX-License-Identifier: Apache-2.0
// Codes of 2 to 8 bits to bytes and back: a little-endian bit stream, code i at bits [i * Bits, (i + 1) * Bits).
// For 2, 4 and 8 bits these are the little-endian words of 32 bits that GPU kernels read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <tersekv/number.hpp>

namespace tersekv::detail {

TERSEKV_HD constexpr std::size_t packed_bytes(int codes, int bits) {
  return (static_cast<std::size_t>(codes * bits) + 7) / 8;
}

/// Eight codes, one in each byte of a word, move to its lowest 8 * Bits bits: pairs, then quadruples, then all eight.
template <int Bits>
constexpr std::uint64_t squeeze(std::uint64_t w) {
  constexpr int gap = 8 - Bits;
  constexpr std::uint64_t odd = 0xff00ff00ff00ff00u, pair = 0xffff0000ffff0000u, half = 0xffffffff00000000u;
  w = (w & ~odd) | (w & odd) >> gap;
  w = (w & ~pair) | (w & pair) >> (2 * gap);
  return (w & ~half) | (w & half) >> (4 * gap);
}
/// The inverse; the bits above 8 * Bits are zero.
template <int Bits>
constexpr std::uint64_t spread(std::uint64_t w) {
  constexpr int gap = 8 - Bits;
  constexpr std::uint64_t half = (1ull << (4 * Bits)) - 1;
  constexpr std::uint64_t pair = ((1ull << (2 * Bits)) - 1) * 0x0000000100000001u;
  constexpr std::uint64_t even = ((1ull << Bits) - 1) * 0x0001000100010001u;
  w = (w & half) | (w & ~half) << (4 * gap);
  w = (w & pair) | (w & ~pair) << (2 * gap);
  return (w & even) | (w & ~even) << gap;
}

/// codes[n] -> packed_bytes(n, Bits) bytes.
template <int Bits>
void pack_codes(const std::uint8_t* codes, int n, std::byte* to) {
  std::uint64_t w = 0;
  int i = 0;
  for (; i + 8 <= n; i += 8, to += Bits) {
    std::memcpy(&w, codes + i, 8);
    w = squeeze<Bits>(w);
    std::memcpy(to, &w, Bits);
  }
  if (i == n) return;
  w = 0;
  std::memcpy(&w, codes + i, static_cast<std::size_t>(n - i));
  w = squeeze<Bits>(w);
  std::memcpy(to, &w, packed_bytes(n - i, Bits));
}
template <int Bits>
void unpack_codes(const std::byte* from, int n, std::uint8_t* codes) {
  int i = 0;
  if constexpr (8 % Bits == 0) {  // codes end where bytes end: a loop that compilers make vectors of
    constexpr int per = 8 / Bits;
    const auto code = [&](int k) {
      return static_cast<std::uint8_t>(static_cast<int>(*from) >> (k * Bits) & ((1 << Bits) - 1));
    };
    for (; i + per <= n; i += per, ++from)
      for (int k = 0; k < per; ++k) codes[i + k] = code(k);
    for (int k = 0; i + k < n; ++k) codes[i + k] = code(k);
  } else {
    std::uint64_t w = 0;
    for (; i + 8 <= n; i += 8, from += Bits) {
      w = 0;
      std::memcpy(&w, from, Bits);
      w = spread<Bits>(w);
      std::memcpy(codes + i, &w, 8);
    }
    if (i == n) return;
    w = 0;
    std::memcpy(&w, from, packed_bytes(n - i, Bits));
    w = spread<Bits>(w);
    std::memcpy(codes + i, &w, static_cast<std::size_t>(n - i));
  }
}

/// 16-bit numbers at any address.
TERSEKV_HD inline void store_half(std::byte* to, half x) { std::memcpy(to, &x.bits, 2); }
TERSEKV_HD inline float load_half(const std::byte* from) {
  half x;
  std::memcpy(&x.bits, from, 2);
  return to_float(x);
}

struct interval {
  float smallest, largest;
};
/// Of x[n], n >= 1. Eight lanes that do not depend on each other, in a loop that stays one: g++ makes vectors of loops
/// with selections, but not of what it has unrolled.
inline interval range_of(const float* x, int n) {
  constexpr int lanes = 8;
  if (n < lanes) {
    interval r{x[0], x[0]};
    for (int i = 1; i < n; ++i) {
      r.smallest = x[i] < r.smallest ? x[i] : r.smallest;
      r.largest = x[i] > r.largest ? x[i] : r.largest;
    }
    return r;
  }
  float low[lanes], high[lanes];
  for (int j = 0; j < lanes; ++j) low[j] = high[j] = x[j];
  const auto take = [&](const float* from) {
#if defined(__GNUC__) && !defined(__CUDACC__)  // nvcc warns about it
#pragma GCC unroll 1
#endif
    for (int j = 0; j < lanes; ++j) {
      low[j] = from[j] < low[j] ? from[j] : low[j];
      high[j] = from[j] > high[j] ? from[j] : high[j];
    }
  };
  int i = lanes;
  for (; i + lanes <= n; i += lanes) take(x + i);
  if (i < n) take(x + n - lanes);  // looks at some twice
  for (int w = lanes / 2; w > 0; w /= 2)
    for (int j = 0; j < w; ++j) {
      low[j] = low[j + w] < low[j] ? low[j + w] : low[j];
      high[j] = high[j + w] > high[j] ? high[j + w] : high[j];
    }
  return {low[0], high[0]};
}

/// The number of largest magnitude of a range, with its sign: of two, the one that `first` has. Never -0.
TERSEKV_HD inline float largest_magnitude(interval r, float first) {
  if (r.largest != -r.smallest) return r.largest > -r.smallest ? r.largest : r.smallest;
  return r.largest == 0 ? 0.0f : first;
}
/// Of x[n]; the first of them, as in ggml.
inline float largest_magnitude(const float* x, int n) {
  const interval r = range_of(x, n);
  float first = r.largest;
  if (r.largest == -r.smallest)
    for (int i = n; i-- > 0;)
      if (x[i] == r.largest || x[i] == r.smallest) first = x[i];
  return largest_magnitude(r, first);
}

}  // namespace tersekv::detail
