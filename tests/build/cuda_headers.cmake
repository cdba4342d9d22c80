# SPDX-License-Identifier: Apache-2.0
# Each kernel header alone: silent where the harness of tests/simt stands in for CUDA; under a compiler that knows no
# CUDA one error, which names the remedy. What nvcc has to say about kernels: every_policy.cmake.
cmake_minimum_required(VERSION 3.25)
set(COMPILER own)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)

file(GLOB_RECURSE headers RELATIVE ${include}/tersekv ${include}/tersekv/*.cuh)
write_includes("${headers}")
set(bad 0)
foreach(source IN LISTS sources)
  compile(${source})
  # The missing file after the #error ends the compilation.
  string(REGEX MATCHALL "error: " errors "${output}")
  list(LENGTH errors errors)
  if(NOT errors EQUAL 2
     OR NOT output MATCHES "needs a CUDA compiler .nvcc.. on the CPU use tersekv/backend/cpu.hpp.*a_cuda_compiler")
    math(EXPR bad "${bad} + 1")
    message(NOTICE "${source}:\n${output}")
  endif()
endforeach()
if(bad)
  message(FATAL_ERROR "${bad} kernel headers do not say that they need a CUDA compiler.")
endif()
list(FILTER sources EXCLUDE REGEX "_ptx_")  # for the toolkit alone: the harness has its own
compile_silently("${sources}" -DTERSEKV_SIMT -I${CMAKE_CURRENT_LIST_DIR}/..)
