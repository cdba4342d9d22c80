// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
#include "catch.hpp"

#include <tersekv/backend/cuda/device.cuh>
#include "simt/buffer.hpp"
#include "simt/sample_checks.hpp"

using namespace tersekv::detail;

namespace banks_test {

struct arguments {
  unsigned stride;  // between lanes, in elements
};
using layout = shared_layout<region<float, 32 * 32>>;

template <class T>
__global__ void strided(arguments a) {
  store_shared(reinterpret_cast<T*>(layout::get<0>()) + threadIdx.x * a.stride, T{});
}

/// Wavefronts per phase.
template <class T>
double conflicts(unsigned stride) {
  const simt::with settings({.schedule = simt::order::random, .meter_banks = true});
  launch(strided<T>, 1, 32, layout::bytes, nullptr, {stride});
  CHECK(simt::counted().phases == sizeof(T) / 4);
  return static_cast<double>(simt::counted().wavefronts) / static_cast<double>(simt::counted().phases);
}

TEST_CASE("the meter counts conflicts of banks", "[simt]") {
  CHECK(conflicts<float>(0) == 1);  // one word for all
  CHECK(conflicts<float>(1) == 1);
  CHECK(conflicts<float>(2) == 2);
  CHECK(conflicts<float>(3) == 1);
  CHECK(conflicts<float>(32) == 32);
  CHECK(conflicts<float2>(1) == 1);
  CHECK(conflicts<float2>(4) == 4);
  CHECK(conflicts<float4>(1) == 1);
  CHECK(conflicts<float4>(2) == 2);
  CHECK(conflicts<float4>(8) == 8);
}

TEST_CASE("the sample kernels have no conflicts", "[simt]") {
  const simt::with settings({.meter_banks = true});
  CHECK(samples::product_is_right(2, 64));
  CHECK(simt::counted().phases > 0);
  CHECK(simt::counted().wavefronts == simt::counted().phases);
  CHECK(samples::sum_is_right(5000, 2));
  CHECK(simt::counted().wavefronts == simt::counted().phases);
}

}  // namespace banks_test
