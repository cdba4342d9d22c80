// SPDX-License-Identifier: Apache-2.0
#include "axes.hpp"

void bench::add_eight_bits(catalogue& to) { add_all(to, eight_bits); }
