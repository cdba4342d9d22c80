// SPDX-License-Identifier: Apache-2.0
// Kernels over codes of up to four bits, in every kind of group.
#include "promises.hpp"

#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/symmetric.hpp>

namespace kv = tersekv;
using test::briefly;

TEST_CASE("kernels over grids of up to four bits err by less than an eighth of the codec", "[backend]") {
  promises::keeps_all(test::named<kv::affine<2, 0>>("affine<2>"));
  promises::keeps_all(briefly<kv::affine<2, 64>>("affine<2, 64>"));
  promises::keeps_all(briefly<kv::affine<3, 32>>("affine<3, 32>"));
  promises::keeps_all(briefly<kv::affine<4, 0>>("affine<4>"));
  promises::keeps_all(briefly<kv::affine<4, 128>>("affine<4, 128>"));
  promises::keeps_all(briefly<kv::symmetric<4, 0>>("symmetric<4>"));
}
