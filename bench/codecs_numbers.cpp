// SPDX-License-Identifier: Apache-2.0
#include "axes.hpp"

void bench::add_numbers(catalogue& to) { add_all(to, numbers); }
