# SPDX-License-Identifier: Apache-2.0
# What tersekv needs, stated once, for two readers:
#   configure   tersekv_require(Eigen3): the installed package, otherwise headers that are there without one, otherwise
#               the sources from the project's repository
#   scripts     tersekv_prepare(Eigen3 ...): installs missing Debian packages where that is possible, picks a generator

macro(tersekv_dependency name debian headers target repository tag folder)
  set(${name}_debian ${debian})          # package of Debian and its relatives
  set(${name}_headers ${headers})        # any of these tells that it is there
  set(${name}_target ${target})
  set(${name}_repository ${repository})  # all are used as headers only, so nothing of theirs is built
  set(${name}_tag ${tag})
  set(${name}_folder ${folder})          # of the headers, inside the repository
endmacro()

tersekv_dependency(Eigen3 libeigen3-dev "Eigen/Core" Eigen3::Eigen
                   https://gitlab.com/libeigen/eigen.git 3.4.0 .)
tersekv_dependency(Catch2 catch2 "catch2/catch.hpp;catch2/catch_all.hpp" Catch2::Catch2
                   https://github.com/catchorg/Catch2.git v2.13.10 single_include)
tersekv_dependency(CLI11 libcli11-dev "CLI/CLI.hpp" CLI11::CLI11
                   https://github.com/CLIUtils/CLI11.git v2.3.2 include)
tersekv_dependency(nlohmann_json nlohmann-json3-dev "nlohmann/json.hpp" nlohmann_json::nlohmann_json
                   https://github.com/nlohmann/json.git v3.11.2 single_include)

# At configure time: makes the dependency's target exist. A macro, so that callers see the version that was found.
macro(tersekv_require name)
  if(NOT TARGET ${${name}_target})
    find_package(${name} QUIET)
  endif()
  if(NOT TARGET ${${name}_target})
    tersekv_find_headers(${name} ${name}_found)
    if(${name}_found)
      tersekv_use_headers(${name} ${${name}_found})
    else()
      tersekv_fetch(${name})
    endif()
  endif()
endmacro()

# out: the folder of its headers, or nothing. At either time.
function(tersekv_find_headers name out)
  find_path(folder NAMES ${${name}_headers} HINTS ENV CMAKE_PREFIX_PATH PATHS /usr /usr/local
            PATH_SUFFIXES include include/eigen3 NO_CACHE)
  if(NOT folder)
    set(folder)
  endif()
  set(${out} ${folder} PARENT_SCOPE)
endfunction()

function(tersekv_use_headers name folder)
  add_library(${${name}_target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${${name}_target} SYSTEM INTERFACE ${folder})
endfunction()

function(tersekv_fetch name)
  string(TOUPPER ${name} upper)
  string(TOLOWER ${name} lower)
  if(FETCHCONTENT_FULLY_DISCONNECTED AND NOT FETCHCONTENT_SOURCE_DIR_${upper})
    message(FATAL_ERROR "tersekv: ${name} is missing (Debian: ${${name}_debian}), and nothing is downloaded here. "
                        "Set CMAKE_PREFIX_PATH to where it is installed.")
  endif()
  message(STATUS "${name} is not installed (Debian: ${${name}_debian}); fetching ${${name}_repository} ${${name}_tag}")
  find_package(Git QUIET)
  if(NOT Git_FOUND AND NOT FETCHCONTENT_SOURCE_DIR_${upper})
    message(FATAL_ERROR "tersekv: ${name} is missing, and so is git, which would fetch it.\n"
                        "Install ${${name}_debian} (Debian) or git, or set CMAKE_PREFIX_PATH to where it is installed.")
  endif()
  include(FetchContent)
  # SOURCE_SUBDIR names a folder without a CMakeLists.txt: download, but do not configure.
  FetchContent_Declare(${name} GIT_REPOSITORY ${${name}_repository} GIT_TAG ${${name}_tag} GIT_SHALLOW TRUE
                       SOURCE_SUBDIR none)
  FetchContent_MakeAvailable(${name})
  tersekv_use_headers(${name} ${${lower}_SOURCE_DIR}/${${name}_folder})
endfunction()

# At script time: sets `generator` for the caller. What cannot be installed here is left to tersekv_require.
function(tersekv_prepare)
  set(missing)
  tersekv_find_tools()
  if(NOT CXX_PROGRAM)
    list(APPEND missing g++)
  endif()
  if(NOT NINJA_PROGRAM)
    list(APPEND missing ninja-build)
  endif()
  foreach(name IN LISTS ARGN)
    tersekv_find_headers(${name} found)
    if(NOT found)
      list(APPEND missing ${${name}_debian})
    endif()
  endforeach()
  if(missing)
    tersekv_install(${missing})
    tersekv_find_tools()
  endif()

  if(NOT CXX_PROGRAM)
    message(FATAL_ERROR "tersekv: no C++ compiler found. Install g++ 12 or clang 14, or newer, or set CXX.")
  endif()
  if(NINJA_PROGRAM)
    set(generator Ninja PARENT_SCOPE)
  elseif(MAKE_PROGRAM)
    set(generator "Unix Makefiles" PARENT_SCOPE)
  else()
    message(FATAL_ERROR "tersekv: neither ninja nor make found. Install one of them.")
  endif()
endfunction()

macro(tersekv_find_tools)
  find_program(CXX_PROGRAM NAMES $ENV{CXX} c++ g++ clang++ NO_CACHE)
  find_program(NINJA_PROGRAM NAMES ninja ninja-build NO_CACHE)
  find_program(MAKE_PROGRAM NAMES make gmake NO_CACHE)
endmacro()

function(tersekv_install)
  if(FETCHCONTENT_FULLY_DISCONNECTED)
    return()
  endif()
  list(JOIN ARGN " " packages)
  find_program(APT NAMES apt-get NO_CACHE)
  find_program(ID NAMES id NO_CACHE)
  set(user)
  if(ID)
    execute_process(COMMAND ${ID} -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  if(NOT APT OR NOT user STREQUAL "0")
    message(STATUS "Going on without ${packages}; libraries are fetched.")
    message(STATUS "To install them instead on Debian: sudo apt-get install ${packages}")
    return()
  endif()
  message(STATUS "Installing ${packages}")
  set(ENV{DEBIAN_FRONTEND} noninteractive)
  execute_process(COMMAND ${APT} update -q)
  execute_process(COMMAND ${APT} install -q -y --no-install-recommends ${ARGN} RESULT_VARIABLE failed)
  if(failed)
    message(WARNING "apt-get could not install ${packages}. Going on without.")
  endif()
endfunction()
