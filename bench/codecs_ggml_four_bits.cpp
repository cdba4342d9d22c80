// SPDX-License-Identifier: Apache-2.0
#include "axes.hpp"

void bench::add_ggml_four_bits(catalogue& to) { add_all(to, ggml_four_bits); }
