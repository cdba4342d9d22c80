# SPDX-License-Identifier: Apache-2.0

# One program per folder of tests/ from its *_test.cpp files, one CTest entry per file.
function(tersekv_test_programs)
  set(programs)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *_test.cpp)
  if(NOT TERSEKV_EXAMPLES)  # tests/lab is about examples/lab
    list(FILTER files EXCLUDE REGEX "^lab/")
  endif()
  foreach(file IN LISTS files)
    string(REGEX MATCH "^[^/]+/" folder ${file})
    string(REPLACE "/" "" program "${folder}")
    if(NOT program)
      set(program core)
    elseif(file MATCHES "^backend/cuda/")  # these run on the harness of tests/simt
      set(program cuda)
    endif()
    set(program ${program}_tests)
    if(NOT TARGET ${program})
      add_executable(${program})
      target_link_libraries(${program} PRIVATE tersekv_catch)
    endif()
    target_sources(${program} PRIVATE ${file})

    # Catch2 can tag every test with the name of its file; asking for that tag runs the file.
    cmake_path(GET file STEM LAST_ONLY stem)
    string(REGEX REPLACE "\\.cpp$" "" name ${file})
    add_test(NAME ${name} COMMAND ${program} --filenames-as-tags "[#${stem}]"
             WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    # Catch2 2 succeeds when nothing matches.
    set_tests_properties(${name} PROPERTIES LABELS unit FAIL_REGULAR_EXPRESSION "No test cases matched")
  endforeach()
endfunction()

# For the tests that call compilers themselves: writes which there are, and with which folders; sets TERSEKV_COMPILERS.
function(tersekv_write_compilers path)
  find_program(TERSEKV_CLANG clang++)
  find_program(TERSEKV_NVCC nvcc HINTS /usr/local/cuda/bin)
  set(compilers own)
  if(TERSEKV_CLANG AND NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    list(APPEND compilers clang)
  endif()
  if(TERSEKV_NVCC)
    execute_process(COMMAND ${TERSEKV_NVCC} --version OUTPUT_VARIABLE version)
    if(version MATCHES "release ([0-9]+)" AND CMAKE_MATCH_1 GREATER_EQUAL 12)  # the first to know C++20
      list(APPEND compilers nvcc)
    endif()
  endif()
  list(JOIN compilers ", " names)
  message(STATUS "Compile tests use: ${names}")
  set(TERSEKV_COMPILERS ${compilers} PARENT_SCOPE)
  file(GENERATE OUTPUT ${path} CONTENT "# written by tersekv_write_compilers
set(own [[${CMAKE_CXX_COMPILER}]])
set(clang [[${TERSEKV_CLANG}]])
set(nvcc [[${TERSEKV_NVCC}]])
set(include [[${PROJECT_SOURCE_DIR}/include]])
set(eigen [[$<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>]])
")
endfunction()
