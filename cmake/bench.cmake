# SPDX-License-Identifier: Apache-2.0
# cmake -P cmake/bench.cmake: installs what is missing, builds the benchmarks in build/bench, runs them one after the
# other, and writes build/bench/results.json, the tables of bench/RESULTS.md and bench/roofline.svg. With
# -DOPTIONS="--quick" before -P, or any other option of the programs, they get it. ggml is found through the environment:
# CMAKE_PREFIX_PATH=/opt/ggml cmake -P cmake/bench.cmake.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/build.cmake)
tersekv_build(bench release bench "Eigen3;CLI11;nlohmann_json" -DTERSEKV_TESTS=OFF -DTERSEKV_EXAMPLES=OFF
              -DTERSEKV_BENCH=ON)
separate_arguments(options NATIVE_COMMAND "${OPTIONS}")
foreach(question attend append trim prompt recipes)
  tersekv_run("bench_${question}" ${build}/bench/bench_${question} --json ${build}/${question}.json ${options})
endforeach()
tersekv_run("bench_tables" ${build}/bench/bench_tables ${build} ${root}/bench/RESULTS.md ${root}/bench/roofline.svg)
message(STATUS "Tables: bench/RESULTS.md, bench/roofline.svg; numbers: build/bench/results.json")
