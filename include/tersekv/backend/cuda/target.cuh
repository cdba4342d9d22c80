// SPDX-License-Identifier: Apache-2.0
// Who reads a kernel header: a CUDA compiler, or the tests, which run kernels on the CPU (TERSEKV_SIMT).
#pragma once
#if defined(__CUDACC__)
#include <cuda_runtime.h>
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "tersekv: kernels need compute capability 8.0 or newer (nvcc -arch=sm_80)"
#endif
#define TERSEKV_UNROLL _Pragma("unroll")
#elif defined(TERSEKV_SIMT)
#include "simt/cuda_names.hpp"
#define TERSEKV_UNROLL
#else
#error "tersekv: this header needs a CUDA compiler (nvcc); on the CPU use tersekv/backend/cpu.hpp"
#include <a_cuda_compiler>  // does not exist: compilation ends here, without errors that follow from the first
#endif
