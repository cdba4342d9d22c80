# SPDX-License-Identifier: Apache-2.0
# tersekv_own_code: what our tests, examples and benchmarks are compiled with. Consumers never see it.

# Only for a build of our own: a superproject decides these for itself.
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_CXX_EXTENSIONS OFF)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  find_program(TERSEKV_CCACHE ccache)
  if(TERSEKV_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${TERSEKV_CCACHE})
  endif()
  foreach(script refresh lint)
    add_custom_target(${script} VERBATIM USES_TERMINAL
                      COMMAND ${CMAKE_COMMAND} -DBUILD=${PROJECT_BINARY_DIR}
                              -P ${PROJECT_SOURCE_DIR}/cmake/${script}.cmake)
  endforeach()
endif()

# clang counts sign conversions under -Wconversion and g++ does not; counts are int and sizes are std::size_t here.
set(tersekv_warnings -Wall -Wextra -Wpedantic -Wconversion -Wno-sign-conversion)
# Errors only with the compilers that we test with: a newer one may find something new, which must not stop a stranger.
if(TERSEKV_WERROR AND ((CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
                       OR (CMAKE_CXX_COMPILER_ID STREQUAL Clang AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15)))
  list(APPEND tersekv_warnings -Werror)
endif()

# g++ 12 and 13 warn inside their own <immintrin.h> and <string> when they optimise; clang still looks for these.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  list(APPEND tersekv_warnings -Wno-uninitialized -Wno-maybe-uninitialized -Wno-restrict)
endif()

find_package(Threads REQUIRED)
add_library(tersekv_own_code INTERFACE)
target_link_libraries(tersekv_own_code INTERFACE tersekv Threads::Threads)
target_compile_options(tersekv_own_code INTERFACE
                       $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:${tersekv_warnings}>)
if(TERSEKV_NATIVE)
  target_compile_options(tersekv_own_code INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
endif()
