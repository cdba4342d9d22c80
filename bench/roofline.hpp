// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <filesystem>

#include "record.hpp"

namespace bench {

/// Operations per second against operations per byte, both by logarithm: one point per recipe at the largest row count
/// and number of threads of the first shape, under the lines of what was measured of the machine.
void write_roofline(const std::filesystem::path& file, const run_of_question& attend);

}  // namespace bench
