# SPDX-License-Identifier: Apache-2.0
# The benchmarks are not part of the test build, as compiling them takes minutes; here those files are read that
# instantiate little.
cmake_minimum_required(VERSION 3.25)
set(COMPILER own)
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/compile.cmake)

cmake_path(SET root NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/../..)
file(GLOB files ${root}/bench/*.cpp)
list(FILTER files EXCLUDE REGEX "/(codecs_|peer_|append|machine|prompt|recipes|roofline|trim)")
compile_silently("${files}" -I${root}/examples/lab)
