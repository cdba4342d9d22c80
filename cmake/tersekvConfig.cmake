# SPDX-License-Identifier: Apache-2.0
# Read by find_package(tersekv). A project that already brings Eigen keeps its own.
include(CMakeFindDependencyMacro)
if(NOT TARGET Eigen3::Eigen)
  find_dependency(Eigen3)
endif()
include(${CMAKE_CURRENT_LIST_DIR}/tersekvTargets.cmake)
