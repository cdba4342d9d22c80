# SPDX-License-Identifier: Apache-2.0
# The README shows what its example prints.
file(READ ${README} readme)
string(REGEX MATCH "<!-- output:begin -->\n```\n(.*)```\n<!-- output:end -->" found "${readme}")
set(shown "${CMAKE_MATCH_1}")
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed RESULT_VARIABLE failed)
if(failed OR NOT printed STREQUAL shown)
  message(FATAL_ERROR "README.md shows:\n${shown}\n${PROGRAM} prints:\n${printed}")
endif()
