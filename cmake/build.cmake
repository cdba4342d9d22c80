# SPDX-License-Identifier: Apache-2.0
# tersekv_build(<folder> <preset> <targets> <dependencies> [options...]): from a fresh machine to built targets in
# build/<folder>. Shared by bench.cmake, demo.cmake, gpu.cmake and test.cmake; sets `build` and `jobs` for them.
include(${CMAKE_CURRENT_LIST_DIR}/dependencies.cmake)

cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH root)
set(jobs $ENV{CMAKE_BUILD_PARALLEL_LEVEL})
if(NOT jobs)
  cmake_host_system_information(RESULT jobs QUERY NUMBER_OF_LOGICAL_CORES)
endif()

function(tersekv_run what)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${root} RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "tersekv: ${what} failed (${failed}); the reason stands above.")
  endif()
endfunction()

macro(tersekv_build folder preset targets dependencies)
  set(build ${root}/build/${folder})
  tersekv_prepare(${dependencies})
  if(EXISTS ${build}/CMakeCache.txt)  # a build folder keeps its generator
    file(STRINGS ${build}/CMakeCache.txt generator REGEX "^CMAKE_GENERATOR:INTERNAL=")
    string(REPLACE "CMAKE_GENERATOR:INTERNAL=" "" generator "${generator}")
  endif()
  tersekv_run("configuring" ${CMAKE_COMMAND} --preset ${preset} -S ${root} -B ${build} -G ${generator} ${ARGN})
  tersekv_run("building" ${CMAKE_COMMAND} --build ${build} --parallel ${jobs} --target ${targets})
endmacro()
