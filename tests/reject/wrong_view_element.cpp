// SPDX-License-Identifier: Apache-2.0
// expect: elements are float, tersekv::half or tersekv::bfloat16
#include <tersekv/view.hpp>
#if defined(TERSEKV_REJECT)
using number = double;
#else
using number = float;
#endif
number data[4];
tersekv::view rows(data, 1, 1, 4);
