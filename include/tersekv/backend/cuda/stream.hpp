// SPDX-License-Identifier: Apache-2.0
// What plain C++ needs to talk about CUDA; no toolkit is read.
#pragma once
#include <string>

#include <tersekv/error.hpp>

struct CUstream_st;

namespace tersekv {

/// The toolkit's cudaStream_t; nullptr is the default stream.
using cuda_stream = CUstream_st*;

/// A call of the CUDA runtime that failed.
struct cuda_error : error {
  cuda_error(const std::string& call, int code, const std::string& reason)
      : error("tersekv: " + call + " failed: " + reason + " (CUDA error " + std::to_string(code) + ")"), code(code) {}
  int code;  ///< the runtime's cudaError_t
};

}  // namespace tersekv
