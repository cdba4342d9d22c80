# SPDX-License-Identifier: Apache-2.0
# Compiles each public header alone, without a warning; HEADERS names some instead of all. Instruction sets are chosen
# by backend/cpu/simd.hpp; their headers are read through it only.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)

if(NOT HEADERS)
  file(GLOB_RECURSE HEADERS RELATIVE ${include}/tersekv ${include}/tersekv/*.hpp)
  list(FILTER HEADERS EXCLUDE REGEX "^detail/|^backend/cpu/simd_")
endif()
write_includes("${HEADERS}")
compile_silently("${sources}")
