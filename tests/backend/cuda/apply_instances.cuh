// SPDX-License-Identifier: Apache-2.0
// Page formats whose kernels tests/build/registers.txt bounds.
#pragma once
#include <tersekv/backend/cuda/list_numbers.cuh>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/read/quest.hpp>
#include <tersekv/read/read_all.hpp>

namespace writing {

using int4 = tersekv::page_format<tersekv::int4<>, tersekv::read_all>;
using turned_kivi = tersekv::page_format<tersekv::through<tersekv::hadamard, tersekv::kivi<2>>, tersekv::quest>;
using tersekv::detail::apply_kernel;
using tersekv::detail::list_numbers_kernel;

}  // namespace writing
