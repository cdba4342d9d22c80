# SPDX-License-Identifier: Apache-2.0
# cmake -P cmake/test.cmake: installs what is missing, builds everything, runs all tests.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/build.cmake)
find_program(VALGRIND_PROGRAM NAMES valgrind NO_CACHE)  # counts the kernels' instructions; left out where it is missing
if(NOT VALGRIND_PROGRAM)
  tersekv_install(valgrind)
endif()
tersekv_build(test ci all "Eigen3;Catch2;CLI11;nlohmann_json")
tersekv_run("testing" ${CMAKE_CTEST_COMMAND} --test-dir ${build} --output-on-failure --timeout 600 --parallel ${jobs})
