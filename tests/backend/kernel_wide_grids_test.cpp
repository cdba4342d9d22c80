// SPDX-License-Identifier: Apache-2.0
// Kernels over codes of more than four bits.
#include "promises.hpp"

#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/symmetric.hpp>

namespace kv = tersekv;
using test::briefly;

TEST_CASE("kernels over grids of more bits err by less than a thousandth", "[backend]") {
  promises::keeps_all(briefly<kv::affine<5, 32>>("affine<5, 32>"));
  promises::keeps_all(briefly<kv::affine<6, 0>>("affine<6>"));
  promises::keeps_all(briefly<kv::symmetric<7, 32>>("symmetric<7, 32>"));  // three planes
  promises::keeps_all(briefly<kv::affine<8, 128>>("affine<8, 128>"));
  promises::keeps_all(briefly<kv::symmetric<8, 64>>("symmetric<8, 64>"));
}
