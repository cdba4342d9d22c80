// SPDX-License-Identifier: Apache-2.0
// tersekv/rotary/unknown_rotation.hpp
//
// unknown_rotation: the cache does not know how keys were rotated, and leaves them as they came (the default).
//
// Needs     nothing
#pragma once
#include <tersekv/policy.hpp>

namespace tersekv {

struct unknown_rotation {
  using role = tersekv::role::rotary;
  void angles(int, int, float*) const {}
  void turn(float*, int, const float*) const {}
};

}  // namespace tersekv
