// SPDX-License-Identifier: Apache-2.0
// The ways in which a test of a kernel runs it: each must give the same result.
#pragma once
#include <array>

#include "simt/options.hpp"

namespace simt {

inline constexpr std::array<options, 4> schedules{{
    {.schedule = order::fifo, .copies = async_copy::late},
    {.schedule = order::lifo, .copies = async_copy::early},
    {.schedule = order::random, .copies = async_copy::random, .seed = 1},
    {.schedule = order::random, .copies = async_copy::late, .seed = 2, .workers = 3},
}};

}  // namespace simt
