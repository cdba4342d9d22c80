# SPDX-License-Identifier: Apache-2.0
# Instructions per (row, query head) of decode attention, counted by callgrind: immune to a busy machine, and so the gate
# against regressions. Given COUNT, VALGRIND, FOLDER. Limits are for AVX2 code of g++ 12 with -O3, 1 to 4 % above what was
# counted; docs/kernels.md says where the instructions go.
cmake_minimum_required(VERSION 3.25)
set(limits int4_per_row 28 int4_minimum_per_row 28 q4_0 36 int4_groups_of_32 36 int8 50 f16 77 2_bits_per_row 27)

function(count codec rows)
  set(file ${FOLDER}/callgrind.${codec}.${rows})
  execute_process(COMMAND ${VALGRIND} --tool=callgrind --callgrind-out-file=${file} "--toggle-collect=*attend_pieces*"
                          ${COUNT} ${codec} ${rows}
                  RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(failed OR NOT said MATCHES "Collected : ([0-9]+)")
    message(FATAL_ERROR "${said}")
  endif()
  set(counted ${CMAKE_MATCH_1} PARENT_SCOPE)
endfunction()

set(bad 0)
while(limits)
  list(POP_FRONT limits codec limit)
  count(${codec} 4096)
  set(some ${counted})
  count(${codec} 8192)
  math(EXPR tenths "((${counted} - ${some}) * 10 + 2 * 4096) / (4 * 4096)")  # rounded
  math(EXPR whole "${tenths} / 10")
  math(EXPR rest "${tenths} % 10")
  message(NOTICE "${codec}: ${whole}.${rest} instructions per row and query head, at most ${limit}")
  math(EXPR most "${limit} * 10")
  if(tenths GREATER most OR tenths LESS 100)
    math(EXPR bad "${bad} + 1")
  endif()
endwhile()
if(bad)
  message(FATAL_ERROR "${bad} codecs need more instructions than they may.")
endif()
