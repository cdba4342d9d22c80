# SPDX-License-Identifier: Apache-2.0
# Compiles each public header alone, without a warning; HEADERS names some instead of all. Instruction sets are chosen
# by backend/cpu/simd.hpp; their headers are read through it only.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)

if(NOT HEADERS)
  file(GLOB_RECURSE HEADERS RELATIVE ${include}/tersekv ${include}/tersekv/*.hpp)
  list(FILTER HEADERS EXCLUDE REGEX "^detail/|^backend/cpu/simd_")
endif()
set(bad 0)
foreach(header IN LISTS HEADERS)
  string(REPLACE "/" "_" name ${header})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/alone_${COMPILER}_${name}.cpp)
  file(WRITE ${source} "#include <tersekv/${header}>\n")
  compile(${source})
  if(failed OR output)
    math(EXPR bad "${bad} + 1")
    message(NOTICE "tersekv/${header}:\n${output}")
  endif()
endforeach()
if(bad)
  message(FATAL_ERROR "${bad} headers do not compile alone, or not without a warning.")
endif()
