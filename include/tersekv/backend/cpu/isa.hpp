// SPDX-License-Identifier: Apache-2.0
// Which instructions the kernels are compiled for: TERSEKV_ISA, one of avx512, avx2, neon, portable.
//
// It follows the compiler's flags and names an inline namespace around the kernels and all caches, so that two units of
// one program, built with different flags, do not share these by name (docs/kernels.md: what they do share).
// TERSEKV_PORTABLE asks for plain C++.
#pragma once

#if defined(TERSEKV_PORTABLE) || defined(__CUDACC__)
#define TERSEKV_ISA portable
#define TERSEKV_ISA_PORTABLE 1
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)
#define TERSEKV_ISA avx512
#define TERSEKV_ISA_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define TERSEKV_ISA avx2
#define TERSEKV_ISA_AVX2 1
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define TERSEKV_ISA neon
#define TERSEKV_ISA_NEON 1
#else
#define TERSEKV_ISA portable
#define TERSEKV_ISA_PORTABLE 1
#endif

// Code that is not optimised is not inlined either: g++ would need minutes and gigabytes for one cache.
#if defined(__OPTIMIZE__)
#define TERSEKV_INLINE inline __attribute__((always_inline))
#define TERSEKV_INLINED __attribute__((always_inline))  // behind the parameters of a lambda
#define TERSEKV_APART __attribute__((noinline))         // rare: takes no registers from what is not
#else
#define TERSEKV_INLINE inline
#define TERSEKV_INLINED
#define TERSEKV_APART
#endif

namespace tersekv::detail {
/// How the kernels of this unit were compiled.
inline namespace TERSEKV_ISA {
#define TERSEKV_TEXT_OF(x) #x
#define TERSEKV_TEXT(x) TERSEKV_TEXT_OF(x)
inline constexpr const char* isa_name = TERSEKV_TEXT(TERSEKV_ISA);
#undef TERSEKV_TEXT
#undef TERSEKV_TEXT_OF
}  // namespace TERSEKV_ISA
}  // namespace tersekv::detail
