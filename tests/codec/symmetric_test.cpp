// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/symmetric.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

TEMPLATE_TEST_CASE_SIG("symmetric stays within half a step", "[codec]", ((int Bits, int Group), Bits, Group), (2, 32),
                       (3, 0), (4, 32), (8, 64)) {
  for (const int dim : {8, 20, 64, 72, 128}) {
    if (Group != 0 && dim > Group && dim % Group != 0) continue;
    laws::packs_well(kv::symmetric<Bits, Group>{}, dim, laws::symmetric_rows(Bits, Group));
    laws::packs_well(kv::symmetric<Bits, Group, kv::layout::rows>{}, dim, laws::symmetric_rows(Bits, Group));
  }
}

TEST_CASE("symmetric loses what the grid loses on normal numbers", "[codec]") {
  CHECK(laws::gaussian_error(kv::symmetric<4, 32>{}.for_keys()) == Approx(.00942).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::symmetric<4, 128>{}.for_keys()) == Approx(.0138).epsilon(0.03));
  CHECK(laws::bits_per_number(kv::symmetric<4, 32>{}.for_keys(), 32, 128) == 4.5);
  CHECK(laws::bits_per_number(kv::symmetric<4, 128>{}.for_keys(), 32, 128) == 4.125);
}
