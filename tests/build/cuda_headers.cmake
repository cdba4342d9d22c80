# SPDX-License-Identifier: Apache-2.0
# Each kernel header alone: silent under nvcc, for the device; under a compiler that knows no CUDA one error, which names the remedy.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)

file(GLOB_RECURSE headers RELATIVE ${include}/tersekv ${include}/tersekv/*.cuh)
set(flags)
if(COMPILER STREQUAL "nvcc")
  set(flags -arch=sm_80 -ptx)  # a third of the time that the host's compiler takes too
endif()
set(bad 0)
foreach(header IN LISTS headers)
  string(REPLACE "/" "_" name ${header})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/alone_${COMPILER}_${name}.cpp)
  file(WRITE ${source} "#include <tersekv/${header}>\n")
  compile(${source} ${flags})
  if(COMPILER STREQUAL "nvcc")
    set(right NOT failed AND NOT output)
  else()
    # The missing file after the #error ends the compilation.
    string(REGEX MATCHALL "error: " errors "${output}")
    list(LENGTH errors errors)
    set(right errors EQUAL 2 AND output MATCHES
              "needs a CUDA compiler .nvcc.. on the CPU use tersekv/backend/cpu.hpp.*a_cuda_compiler")
  endif()
  if(NOT (${right}))
    math(EXPR bad "${bad} + 1")
    message(NOTICE "tersekv/${header}:\n${output}")
  endif()
endforeach()
if(bad)
  message(FATAL_ERROR "${bad} kernel headers do not say what they must under ${COMPILER}.")
endif()
