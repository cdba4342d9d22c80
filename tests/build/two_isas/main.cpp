// SPDX-License-Identifier: Apache-2.0
// Units of one program that were compiled with different flags share no kernel by name, and agree about the result.
#include <cmath>
#include <cstdio>
#include <vector>

#include "units.hpp"

int main() {
  __builtin_cpu_init();
  std::vector<unit_result> results = {attend_portably()};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) results.push_back(attend_with_avx2());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"))
    results.push_back(attend_with_avx512());
  if (results.size() == 1) {
    std::puts("SKIPPED: this processor lacks AVX2");
    return 77;
  }
  bool fine = true;
  for (std::size_t i = 0; i < results.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const unit_result &a = results[j], &b = results[i];
      double difference = 0, norm = 0;
      for (std::size_t c = 0; c < a.out.size(); ++c) {
        const auto x = static_cast<double>(a.out[c]), d = static_cast<double>(b.out[c]) - x;
        difference += d * d, norm += x * x;
      }
      const double relative = std::sqrt(difference / norm);
      std::printf("%s and %s differ by %.1e\n", a.instructions.c_str(), b.instructions.c_str(), relative);
      // The same codes; portable code rounds queries to 16 bits, the others to 8.
      fine = fine && norm > 0 && relative < 1e-2;
      fine = fine && a.instructions != b.instructions && a.cache != b.cache && a.kernel != b.kernel;
    }
  return fine ? 0 : 1;
}
