# SPDX-License-Identifier: Apache-2.0
# One file of tests/reject, one compiler: with TERSEKV_REJECT it must fail with one error and all texts
# after `// expect: `.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/compile.cmake)

file(READ ${SOURCE} text)
string(REPLACE ";" "," text "${text}")
string(REGEX REPLACE "[][]" "|" text "${text}")
string(REGEX MATCHALL "// expect: [^\n]+" expected "${text}")
if(NOT expected)
  message(FATAL_ERROR "${SOURCE} has no line `// expect: <text of the error>`.")
endif()

compile(${SOURCE} -DTERSEKV_REJECT)
if(NOT failed)
  message(FATAL_ERROR "${SOURCE} compiles although TERSEKV_REJECT is defined.")
endif()
string(REGEX REPLACE "[ \n]+" " " sentence_output "${output}")
foreach(line IN LISTS expected)
  string(REGEX REPLACE "^// expect: *" "" line "${line}")
  string(REGEX REPLACE "[ \t]+" " " line "${line}")
  string(STRIP "${line}" line)
  string(FIND "${sentence_output}" "${line}" place)
  if(place EQUAL -1)
    message(NOTICE "${output}")  # as it is; errors would be wrapped
    message(FATAL_ERROR "The compiler does not say: ${line}")
  endif()
endforeach()

string(REGEX MATCHALL "error: [^\n]*" errors "${output}")
list(LENGTH errors count)
if(NOT count EQUAL 1)
  message(FATAL_ERROR "One error should be printed, ${count} were:\n${output}")
endif()
