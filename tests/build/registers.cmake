# SPDX-License-Identifier: Apache-2.0
# Compiles the KERNELS of HEADER for GPUs: no warning, no spill, no more than BOUND registers.
cmake_minimum_required(VERSION 3.25)
set(COMPILER nvcc)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)

cmake_path(SET tests NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/..)
file(WRITE ${SOURCE} "#include <${HEADER}>
template <class... Kernels>
void named(Kernels*...) {}
void instances() { named(${KERNELS}); }
")
compile(${SOURCE} -I${tests} -Werror all-warnings -Xptxas -v -gencode arch=compute_80,code=sm_80
        -gencode arch=compute_90,code=sm_90)
if(failed)
  message(FATAL_ERROR "${output}")
endif()
string(REGEX MATCHALL "Used [0-9]+ registers" used "${output}")
set(most 0)
foreach(kernel IN LISTS used)
  string(REGEX MATCH "[0-9]+" registers ${kernel})
  if(registers GREATER most)
    set(most ${registers})
  endif()
endforeach()
list(LENGTH used count)
message(STATUS "${count} kernels, at most ${most} registers of ${BOUND}")
if(count EQUAL 0 OR most GREATER BOUND OR output MATCHES "[1-9][0-9]* bytes spill")
  message(FATAL_ERROR "Spills, or more registers than tests/build/registers.txt allows:\n${output}")
endif()
