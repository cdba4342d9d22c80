// SPDX-License-Identifier: Apache-2.0
// Kernels of decode attention that tests/build/registers.txt bounds.
#pragma once
#include <tersekv/backend/cuda/decode_launch.cuh>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/read/read_all.hpp>

namespace decoding {

template <class Codec, int Dim, int Octets>
using decoded = tersekv::detail::decode_traits<tersekv::page_format<Codec, tersekv::read_all>, Dim, Dim, Octets>;
using int8_traits = decoded<tersekv::int8<0>, 128, 1>;
using int4_traits = decoded<tersekv::int4<32>, 128, 1>;
using kivi_traits = decoded<tersekv::kivi<2>, 128, 1>;
using two_octets_traits = decoded<tersekv::int4<32>, 128, 2>;
using wide_traits = decoded<tersekv::int4<32>, 256, 1>;
using numbers_traits = decoded<tersekv::dense<tersekv::half>, 128, 2>;
using wide_numbers_traits = decoded<tersekv::dense<tersekv::half>, 256, 1>;
using tersekv::detail::decode_kernel;

}  // namespace decoding
