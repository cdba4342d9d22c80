// SPDX-License-Identifier: Apache-2.0
// Device operations: packed 16-bit numbers, bits, exp2. Conversions and packed arithmetic round to nearest even; what
// is too large becomes infinity (tersekv::from_float saturates).
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include <tersekv/backend/cuda/target.cuh>

namespace tersekv::detail {

/// The bits of x as To; bit_cast refuses the toolkit's packed types.
template <class To, class From>
__device__ __forceinline__ To bits_as(const From& x) {
  static_assert(sizeof(To) == sizeof(From));
  return reinterpret_cast<const To&>(x);
}

__device__ __forceinline__ float half_to_float(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ std::uint16_t half_from_float(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ __forceinline__ float bfloat16_to_float(std::uint16_t bits) {
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
}
__device__ __forceinline__ std::uint16_t bfloat16_from_float(float x) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

__device__ __forceinline__ std::uint32_t half2_pack(float low, float high) {
  return bits_as<std::uint32_t>(__floats2half2_rn(low, high));
}
__device__ __forceinline__ float2 half2_unpack(std::uint32_t pair) { return __half22float2(bits_as<__half2>(pair)); }
__device__ __forceinline__ std::uint32_t bfloat2_pack(float low, float high) {
  return bits_as<std::uint32_t>(__floats2bfloat162_rn(low, high));
}
__device__ __forceinline__ float2 bfloat2_unpack(std::uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

#define TERSEKV_PACKED(kind, type)                                                                         \
  __device__ __forceinline__ std::uint32_t kind##_add(std::uint32_t a, std::uint32_t b) {                  \
    return bits_as<std::uint32_t>(__hadd2_rn(bits_as<type>(a), bits_as<type>(b)));                         \
  }                                                                                                        \
  __device__ __forceinline__ std::uint32_t kind##_sub(std::uint32_t a, std::uint32_t b) {                  \
    return bits_as<std::uint32_t>(__hsub2_rn(bits_as<type>(a), bits_as<type>(b)));                         \
  }                                                                                                        \
  __device__ __forceinline__ std::uint32_t kind##_mul(std::uint32_t a, std::uint32_t b) {                  \
    return bits_as<std::uint32_t>(__hmul2_rn(bits_as<type>(a), bits_as<type>(b)));                         \
  }                                                                                                        \
  __device__ __forceinline__ std::uint32_t kind##_min(std::uint32_t a, std::uint32_t b) {                  \
    return bits_as<std::uint32_t>(__hmin2(bits_as<type>(a), bits_as<type>(b)));                            \
  }                                                                                                        \
  __device__ __forceinline__ std::uint32_t kind##_max(std::uint32_t a, std::uint32_t b) {                  \
    return bits_as<std::uint32_t>(__hmax2(bits_as<type>(a), bits_as<type>(b)));                            \
  }                                                                                                        \
  /* a * b + c, rounded once */                                                                            \
  __device__ __forceinline__ std::uint32_t kind##_fma(std::uint32_t a, std::uint32_t b, std::uint32_t c) { \
    return bits_as<std::uint32_t>(__hfma2(bits_as<type>(a), bits_as<type>(b), bits_as<type>(c)));          \
  }
TERSEKV_PACKED(half2, __half2)
TERSEKV_PACKED(bfloat2, __nv_bfloat162)
#undef TERSEKV_PACKED

/// 2^x, relative error about 2^-22; subnormal results are flushed to zero.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Any function of three bits, for all 32 bits at once: Table is f(0xf0, 0xcc, 0xaa).
template <unsigned Table>
__device__ __forceinline__ std::uint32_t lop3(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t r;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(r) : "r"(a), "r"(b), "r"(c), "n"(Table));
  return r;
}

/// Four of the eight bytes of (a: 0..3, b: 4..7), chosen by the nibbles of Selector, the lowest first.
template <unsigned Selector>
__device__ __forceinline__ std::uint32_t byte_perm(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, Selector);
}

/// The same with nibbles known at run time, each at most 7.
__device__ __forceinline__ std::uint32_t byte_select(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  return __byte_perm(a, b, selector);
}

/// c + the dot product of four signed bytes.
__device__ __forceinline__ int dp4a(int a, int b, int c) { return __dp4a(a, b, c); }

}  // namespace tersekv::detail
