// SPDX-License-Identifier: Apache-2.0
// Exercises samples.cuh so that a fault in it shows: the ring turns, ends inside a piece, blocks have no tile.
#include <cstdio>

#include "simt/sample_checks.hpp"
#include "simt/schedules.hpp"

int main() {
  try {
    for (simt::options schedule : simt::schedules) {
      schedule.meter_banks = !simt::thread_sanitizer;
      const simt::with settings(schedule);
      const bool right = samples::sum_is_right(512 * 8 - 3, 2) && samples::sum_is_right(5, 2);
      if (!right || !samples::product_is_right(1, 48)) return std::puts("wrong result"), 1;
      if (simt::counted().wavefronts != simt::counted().phases) return std::puts("bank conflicts"), 1;
    }
  } catch (const simt::fault& fault) {
    return std::puts(fault.what()), 1;
  }
  return 0;
}
