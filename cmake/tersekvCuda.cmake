# SPDX-License-Identifier: Apache-2.0
# tersekv::cuda: what an executable with kernels of tersekv links. Read where tersekv::tersekv and the CUDA toolkit are
# found, by our own build and by find_package(tersekv COMPONENTS cuda). Enabling the language CUDA is the user's part.
if(NOT TARGET tersekv::cuda)
  add_library(tersekv::cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(tersekv::cuda INTERFACE tersekv::tersekv CUDA::cudart_static)
  # Not a compile feature: CMake before 3.26 does not know that nvcc 12 and later compile C++20.
  target_compile_options(tersekv::cuda INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
endif()
