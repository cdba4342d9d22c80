// SPDX-License-Identifier: Apache-2.0
#include <tersekv/codec/symmetric.hpp>

#include "laws/codec.hpp"

namespace kv = tersekv;

TEMPLATE_TEST_CASE_SIG("symmetric stays within half a step", "[codec]", ((int Bits, int Group), Bits, Group), (2, 32),
                       (3, 0), (4, 32), (8, 64)) {
  const auto f = kv::symmetric<Bits, Group>{}.for_keys();
  for (const int dim : {8, 64, 128}) {
    laws::stays_within_its_bound(f, dim, laws::symmetric_rows(Bits, Group));
    laws::keeps_its_storage_laws(f, dim);
  }
}

TEST_CASE("symmetric loses what the grid loses on normal numbers", "[codec]") {
  CHECK(laws::gaussian_error(kv::symmetric<4, 32>{}.for_keys()) == Approx(.00942).epsilon(0.03));
  CHECK(laws::gaussian_error(kv::symmetric<4, 128>{}.for_keys()) == Approx(.0138).epsilon(0.03));
  CHECK(laws::bits_per_number(kv::symmetric<4, 32>{}.for_keys(), 32, 128) == 4.5);
  CHECK(laws::bits_per_number(kv::symmetric<4, 128>{}.for_keys(), 32, 128) == 4.125);
}
