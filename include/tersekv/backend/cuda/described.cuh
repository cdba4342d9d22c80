// SPDX-License-Identifier: Apache-2.0
// What kernels need to know of a batch, in device memory; written when it is new: engines mostly use the same memory
// again.
#pragma once
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <tersekv/backend/cuda/memory.cuh>
#include <tersekv/backend/cuda/write.cuh>

namespace tersekv::detail {

template <class T>
class described {
 public:
  explicit described(pool& memory) : there_(memory) {}

  /// Where `wanted` stands for kernels that are started from now on, until the next call.
  const T* write(std::span<const T> wanted, cuda_stream stream) {
    if (!std::equal(here_.begin(), here_.end(), wanted.begin(), wanted.end())) {
      here_.clear();  // until they stand there
      there_.at_least(wanted.size());
      write_bytes(there_.data(), wanted.data(), wanted.size_bytes(), stream);
      here_.assign(wanted.begin(), wanted.end());
    }
    return there_.data();
  }

 private:
  device_buffer<T> there_;
  std::vector<T> here_;
};

}  // namespace tersekv::detail
