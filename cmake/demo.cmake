# SPDX-License-Identifier: Apache-2.0
# cmake -P cmake/demo.cmake: installs what is missing, builds the lab, runs it on the shipped model.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/build.cmake)
tersekv_build(demo release tersekv_lab "Eigen3;CLI11;nlohmann_json" -DTERSEKV_TESTS=OFF -DTERSEKV_BENCH=OFF)
tersekv_run("the lab" ${build}/examples/lab/tersekv_lab)
