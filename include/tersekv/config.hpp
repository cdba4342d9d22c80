// SPDX-License-Identifier: Apache-2.0
// The only macros of the library: host/device functions and the debug assertion of inner loops.
#pragma once

#if defined(__CUDACC__)
#define TERSEKV_HD __host__ __device__
#else
#define TERSEKV_HD
#endif

#if defined(TERSEKV_DEBUG)
#include <cassert>
#define TERSEKV_ASSERT(condition) assert(condition)
#else
#define TERSEKV_ASSERT(condition) static_cast<void>(0)
#endif
