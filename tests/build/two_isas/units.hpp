// SPDX-License-Identifier: Apache-2.0
// What the units tell the program.
#pragma once
#include <string>
#include <vector>

struct unit_result {
  std::string instructions;   // as the library names them
  std::string cache, kernel;  // as the linker sees them
  std::vector<float> out;
};
unit_result attend_portably();
unit_result attend_with_avx2();
unit_result attend_with_avx512();
