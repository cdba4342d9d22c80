# SPDX-License-Identifier: Apache-2.0
# Builds and runs CONSUMER, a folder, against the installed package or against the source folder (HOW).
cmake_minimum_required(VERSION 3.25)
set(consumer ${CMAKE_CURRENT_LIST_DIR}/${CONSUMER})
set(work ${CMAKE_CURRENT_BINARY_DIR}/${CONSUMER}_${HOW})
file(REMOVE_RECURSE ${work})

if(HOW STREQUAL package)
  execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix COMMAND_ERROR_IS_FATAL ANY
                  OUTPUT_QUIET)
  set(where -DCMAKE_PREFIX_PATH=${work}/prefix)
else()
  set(where -DTERSEKV_SOURCE=${SOURCE})
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -S ${consumer} -B ${work}/build -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX}
                        ${EIGEN_OPTION} ${CUDA_OPTION} ${where} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${work}/build COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${work}/build/consumer COMMAND_ERROR_IS_FATAL ANY)
