# SPDX-License-Identifier: Apache-2.0
# Compiles every_policy.cu for the device, without a warning; not optimised, which would take minutes.
cmake_minimum_required(VERSION 3.25)
set(COMPILER nvcc)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)
compile(${CMAKE_CURRENT_LIST_DIR}/every_policy.cu -Werror all-warnings -arch=sm_80 -ptx -Xcicc -O0)
if(failed OR output)
  message(FATAL_ERROR "${output}")
endif()
