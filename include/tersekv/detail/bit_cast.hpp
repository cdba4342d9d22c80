// SPDX-License-Identifier: Apache-2.0
// std::bit_cast for host and device: nvcc warns about the standard one in device functions.
#pragma once
#include <tersekv/config.hpp>

namespace tersekv::detail {

template <class To, class From>
TERSEKV_HD constexpr To bit_cast(const From& x) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, x);
}

}  // namespace tersekv::detail
