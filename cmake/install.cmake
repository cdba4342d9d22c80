# SPDX-License-Identifier: Apache-2.0
# The installed package: headers, and what find_package(tersekv) reads.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_DATADIR}/cmake/tersekv)
install(DIRECTORY include/tersekv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")
install(TARGETS tersekv EXPORT tersekv)
install(EXPORT tersekv FILE tersekvTargets.cmake NAMESPACE tersekv:: DESTINATION ${package})

# Headers do not depend on the word size, so one package serves every architecture.
write_basic_package_version_file(tersekvConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES cmake/tersekvConfig.cmake cmake/tersekvCuda.cmake ${PROJECT_BINARY_DIR}/tersekvConfigVersion.cmake
        DESTINATION ${package})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
