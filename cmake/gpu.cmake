# SPDX-License-Identifier: Apache-2.0
# cmake -P cmake/gpu.cmake: where an NVIDIA card and nvcc are, builds for this card in build/gpu, without network, and runs
# the tests of kernels, some of them again under compute-sanitizer, and the benchmarks, which write
# bench/results/<card>.json and .md. A part that fails does not stop the others. From the environment:
# TERSEKV_GPU_PARTS    some of: tests sanitizer bench
# TERSEKV_GPU_OPTIONS  of the benchmarks, such as --quick
# Elsewhere: one sentence, and exit code 77 (1 before CMake 3.29, whose scripts cannot choose).
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/build.cmake)

macro(skip why)
  if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.29)
    message(NOTICE "tersekv: ${why}. Nothing was run.")
    cmake_language(EXIT 77)
  endif()
  message(FATAL_ERROR "tersekv: ${why}. Nothing was run.")
endmacro()

find_program(NVIDIA_SMI nvidia-smi NO_CACHE)
set(card)
if(NVIDIA_SMI)
  execute_process(COMMAND ${NVIDIA_SMI} --query-gpu=name,compute_cap --format=csv,noheader OUTPUT_VARIABLE card
                  ERROR_QUIET)
endif()
if(NOT card MATCHES "^([^\n]+), ([0-9]+)\\.([0-9]+)")  # the first of several
  skip("no GPU here (nvidia-smi names none)")
endif()
set(card ${CMAKE_MATCH_1})
set(architecture ${CMAKE_MATCH_2}${CMAKE_MATCH_3})
find_program(NVCC nvcc HINTS ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin NO_CACHE)
if(NOT NVCC)
  skip("no nvcc here, which the kernels for ${card} need")
endif()
if(architecture LESS 80)
  skip("${card} has compute capability ${CMAKE_MATCH_2}.${CMAKE_MATCH_3}; kernels need 8.0")
endif()

set(parts $ENV{TERSEKV_GPU_PARTS})
separate_arguments(parts)
if(NOT parts)
  set(parts tests sanitizer bench)
endif()
set(targets)
if("tests" IN_LIST parts OR "sanitizer" IN_LIST parts)
  list(APPEND targets gpu_tests)
endif()
if("bench" IN_LIST parts)
  list(APPEND targets gpu_bench)
endif()
set(FETCHCONTENT_FULLY_DISCONNECTED ON)
tersekv_build(gpu cuda "${targets}" "Eigen3;Catch2;CLI11;nlohmann_json"
              -DCMAKE_CUDA_COMPILER=${NVCC} -DCMAKE_CUDA_ARCHITECTURES=${architecture}-real
              -DCMAKE_CUDA_FLAGS=--split-compile=0 -DFETCHCONTENT_FULLY_DISCONNECTED=ON -DTERSEKV_EXAMPLES=OFF)

set(problems)
function(run what)
  message(STATUS "${what} on ${card}")
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${root} RESULT_VARIABLE failed)
  if(failed)
    set(problems ${problems} "${what} (${failed})" PARENT_SCOPE)
  endif()
endfunction()

function(run_sanitizer)
  find_program(SANITIZER compute-sanitizer HINTS ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin NO_CACHE)
  if(NOT SANITIZER)
    message(STATUS "compute-sanitizer is not installed: the tests do not run under it")
    return()
  endif()
  set(small "[simt]")  # and the files that run under sanitizers of the CPU too
  file(GLOB files ${root}/tests/backend/cuda/*_test.cpp)
  foreach(file IN LISTS files)
    file(STRINGS ${file} wanted REGEX "^// sanitizers: .*tsan")
    if(wanted)
      cmake_path(GET file STEM name)
      string(APPEND small ",[#${name}]")
    endif()
  endforeach()
  foreach(tool memcheck racecheck)
    run("compute-sanitizer ${tool}" ${SANITIZER} --tool ${tool} --report-api-errors no --error-exitcode 1
        ${tests} --filenames-as-tags "${small}")
  endforeach()
  set(problems ${problems} PARENT_SCOPE)
endfunction()

set(tests ${build}/tests/gpu/gpu_tests)
if("tests" IN_LIST parts)
  run("gpu_tests" ${tests})
endif()
if("sanitizer" IN_LIST parts)
  run_sanitizer()
endif()
if("bench" IN_LIST parts)
  string(TOLOWER "${card}" name)
  string(REGEX REPLACE "[^a-z0-9]+" "-" name "${name}")
  separate_arguments(options NATIVE_COMMAND "$ENV{TERSEKV_GPU_OPTIONS}")
  run("gpu_bench" ${build}/bench/cuda/gpu_bench --results ${root}/bench/results/${name} ${options})
  message(STATUS "Results: bench/results/${name}.md, bench/results/${name}.json")
endif()

if(problems)
  list(JOIN problems ", " problems)
  message(FATAL_ERROR "tersekv: failed on ${card}: ${problems}")
endif()
