# SPDX-License-Identifier: Apache-2.0
# For tests that call a compiler. Given COMPILERS, the file written by tersekv_write_compilers, and COMPILER, a name in
# it, compile(<source> [flags...]) sets `failed` to the exit code and `output` to what the compiler said.
include(${COMPILERS})
set(ENV{LC_ALL} C)  # messages in English

function(compile source)
  if(COMPILER STREQUAL "nvcc")
    cmake_path(GET source STEM name)  # nvcc has no -fsyntax-only; the object is left in the working directory
    set(mode --compile -x cu -o ${name}.o)
  else()
    set(mode -fsyntax-only -Wall -Wextra -Wpedantic -Wconversion -Wno-sign-conversion)
  endif()
  execute_process(COMMAND ${${COMPILER}} -std=c++20 ${mode} -I${include} -isystem ${eigen} ${ARGN} ${source}
                  RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
  # Semicolons and brackets would make lists of the text; compilers may break long lines, so runs of blanks are one.
  string(REPLACE ";" "," output "${output}")
  string(REGEX REPLACE "[][]" "|" output "${output}")
  string(REGEX REPLACE "[ \t]+" " " output "${output}")
  set(failed ${failed} PARENT_SCOPE)
  set(output "${output}" PARENT_SCOPE)
endfunction()

# Compiles each file of the list `sources`; ends with an error where one fails, or not without a warning.
function(compile_silently sources)
  set(bad 0)
  foreach(source IN LISTS sources)
    compile(${source} ${ARGN})
    if(failed OR output)
      math(EXPR bad "${bad} + 1")
      message(NOTICE "${source}:\n${output}")
    endif()
  endforeach()
  if(bad)
    message(FATAL_ERROR "${bad} files do not compile, or not without a warning.")
  endif()
endfunction()

# Sets `sources` to files that include one of the headers each, named below tersekv/.
function(write_includes headers)
  set(sources)
  foreach(header IN LISTS headers)
    string(REPLACE "/" "_" name ${header})
    set(source ${CMAKE_CURRENT_BINARY_DIR}/alone_${COMPILER}_${name}.cpp)
    file(WRITE ${source} "#include <tersekv/${header}>\n")
    list(APPEND sources ${source})
  endforeach()
  set(sources ${sources} PARENT_SCOPE)
endfunction()
