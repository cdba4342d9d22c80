// SPDX-License-Identifier: Apache-2.0
#include "axes.hpp"

void bench::add_few_bits(catalogue& to) { add_all(to, few_bits); }
