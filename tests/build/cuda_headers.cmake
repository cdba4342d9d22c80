# SPDX-License-Identifier: Apache-2.0
# Each kernel header alone: silent where the harness of tests/simt stands in for CUDA. Under a compiler that knows no
# CUDA the one that users include gives one error, which names the remedy. What nvcc has to say: every_policy.cmake.
cmake_minimum_required(VERSION 3.25)
set(COMPILER own)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)

write_includes(backend/cuda.cuh)
compile(${sources})
string(REGEX MATCHALL "error: " errors "${output}")
list(LENGTH errors errors)
if(NOT errors EQUAL 2  # the missing file after the #error ends the compilation
   OR NOT output MATCHES "needs a CUDA compiler .nvcc.. on the CPU use tersekv/backend/cpu.hpp.*a_cuda_compiler")
  message(FATAL_ERROR "The header does not say that it needs a CUDA compiler:\n${output}")
endif()

file(GLOB_RECURSE headers RELATIVE ${include}/tersekv ${include}/tersekv/*.cuh)
list(FILTER headers EXCLUDE REGEX "/ptx_")  # for the toolkit alone: the harness has its own
write_includes("${headers}")
compile_silently("${sources}" -DTERSEKV_SIMT -I${CMAKE_CURRENT_LIST_DIR}/..)
