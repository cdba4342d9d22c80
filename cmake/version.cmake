# SPDX-License-Identifier: Apache-2.0
# TERSEKV_VERSION, read from the one header that states it.
file(READ ${CMAKE_CURRENT_LIST_DIR}/../include/tersekv/version.hpp version_header)
string(REGEX MATCH "define TERSEKV_VERSION \"([0-9.]+)\"" matched "${version_header}")
set(TERSEKV_VERSION ${CMAKE_MATCH_1})
string(REGEX REPLACE ".*_MAJOR ([0-9]+).*_MINOR ([0-9]+).*_PATCH ([0-9]+).*" "\\1.\\2.\\3" numbers "${version_header}")
if(NOT TERSEKV_VERSION STREQUAL numbers)
  message(FATAL_ERROR "include/tersekv/version.hpp says ${TERSEKV_VERSION} in one place and ${numbers} in another.")
endif()
