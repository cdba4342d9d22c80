// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "record.hpp"

namespace bench {

/// What was aimed at beside what the runs reached, as a table: over how many lines, in how many of them, and the worst
/// and the best.
std::string goals(const std::vector<run_of_question>& runs);

}  // namespace bench
