// SPDX-License-Identifier: Apache-2.0
#include "axes.hpp"

void bench::add_four_bits(catalogue& to) { add_all(to, four_bits); }
