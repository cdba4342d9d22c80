// SPDX-License-Identifier: Apache-2.0
// Ends a program whose instructions this processor lacks, before any other code of it runs. Compiled without flags.
#include <cstdio>
#include <cstdlib>

namespace {

constexpr int skipped = 77;

[[gnu::constructor(101)]] void require_instructions() {
  __builtin_cpu_init();
#if defined(TERSEKV_NEEDS_avx512)
  const bool have = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni");
  const char* const name = "AVX-512 with VNNI";
#elif defined(TERSEKV_NEEDS_avx2)
  const bool have = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const char* const name = "AVX2 with FMA";
#else
  const bool have = true;
  const char* const name = "nothing";
#endif
  if (have) return;
  std::fprintf(stderr, "SKIPPED: this processor lacks %s\n", name);
  std::_Exit(skipped);
}

}  // namespace
