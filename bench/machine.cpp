// SPDX-License-Identifier: Apache-2.0
#include "machine.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include <tersekv/backend/cpu/simd.hpp>

#include "measure.hpp"

namespace bench {
namespace {

using simd = tersekv::detail::simd;

/// Keeps the compiler from finding out what is in x, and from dropping it.
template <class T>
void opaque(T& x) {
#if defined(__GNUC__)
  asm volatile("" : "+m"(x));
#endif
}

/// The same for codes that are in a register, and stay there.
void renew(simd::raw& x) {
#if defined(TERSEKV_ISA_AVX512)
  asm volatile("" : "+v"(x));
#elif defined(TERSEKV_ISA_AVX2)
  asm volatile("" : "+x"(x));
#else
  opaque(x);
#endif
}

constexpr int rounds = 200000;
constexpr int chains = 12;  // latency times throughput of a product, and some

double integer_operations() { return 2.0 * 4 * simd::lanes * chains * rounds; }
void integer_products() {
  using products = simd::narrow;
  alignas(64) std::byte bytes[64 * chains] = {};
  for (std::size_t i = 0; i < sizeof(bytes); ++i) bytes[i] = static_cast<std::byte>(i % 7);
  opaque(bytes);
  typename products::acc sum[chains];
  for (auto& s : sum) s = products::start({});
  simd::raw codes = simd::load_raw(bytes);
  const auto factor = products::load(bytes + 64, 4);
  for (int i = 0; i < rounds; ++i) {
    renew(codes);  // otherwise the products are the same each time, and need not be made again
    for (auto& s : sum) s = products::dot(s, codes, factor);
  }
  for (auto& s : sum) opaque(s);
}

double float_operations() { return 2.0 * simd::lanes * chains * rounds; }
void float_products() {
  float numbers[2] = {0.999f, 1e-3f};
  opaque(numbers);
  simd::f32 sum[chains];
  for (auto& s : sum) s = simd::zero();
  const simd::f32 x = simd::set(numbers[0]), y = simd::set(numbers[1]);
  for (int i = 0; i < rounds; ++i)
    for (auto& s : sum) s = simd::fma(s, x, y);
  for (auto& s : sum) opaque(s);
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name") && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  return "unknown processor";
}

/// Of this machine; the processor's own answer (sysconf) counts parts that a virtual machine does not have.
std::size_t last_level_cache() {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");
  std::size_t kib = 0;
  if (file >> kib) return kib << 10;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  return static_cast<std::size_t>(std::max(0L, sysconf(_SC_LEVEL3_CACHE_SIZE)));
#else
  return 0;
#endif
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "g++ " __VERSION__;
#else
  return "unknown compiler";
#endif
}

}  // namespace

memory_stream::memory_stream(std::size_t last_level_cache, std::pmr::memory_resource* memory)
    : words_(std::max(std::size_t{1} << 28, 2 * last_level_cache) / sizeof(std::uint64_t), 1, memory) {}

void memory_stream::read(team& threads) {
  constexpr std::size_t streams = 4;
  const auto workers = static_cast<std::size_t>(threads.used());
  const std::size_t piece = words_.size() / (workers * streams);
  std::vector<std::uint64_t> sums(workers * 16);
  threads.run(threads.used(), [&](int w) {
    const std::uint64_t* p = words_.data() + static_cast<std::size_t>(w) * streams * piece;
    constexpr std::size_t width = 8;  // words of a cache line
    std::uint64_t sum[streams][width] = {};
    for (std::size_t i = 0; i + width <= piece; i += width)
      for (std::size_t s = 0; s < streams; ++s)
        for (std::size_t j = 0; j < width; ++j) sum[s][j] += p[s * piece + i + j];
    for (const auto& lane : sum)
      for (const std::uint64_t x : lane) sums[static_cast<std::size_t>(w) * 16] += x;
  });
  for (const std::uint64_t x : sums) sum_ += x;
  opaque(sum_);
}

machine describe_machine() {
  machine m;
  m.cpu = cpu_name(), m.compiler = compiler_name(), m.isa = tersekv::detail::isa_name;
  m.last_level_cache = last_level_cache();
#if defined(_SC_PHYS_PAGES)
  m.memory = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
#else
  m.memory = std::size_t{8} << 30;
#endif
  return m;
}

void measure_machine(machine& m, memory_stream& stream, team& threads, int most) {
  const auto size = static_cast<std::size_t>(most) + 1;
  m.bandwidth.assign(size, 0), m.integer_peak.assign(size, 0), m.float_peak.assign(size, 0);
  for (int n = 1; n <= most; ++n) {
    threads.use(n);
    const auto all = [&](void (*work)()) {
      return [&threads, work] { threads.run(threads.used(), [&](int) { work(); }); };
    };
    const auto times = interleaved({{.name = "read", .run = [&] { stream.read(threads); }},
                                    {.name = "integers", .run = all(integer_products)},
                                    {.name = "floats", .run = all(float_products)}},
                                   0.5, 7);
    const auto u = static_cast<std::size_t>(n);
    m.bandwidth[u] = 1e-3 * stream.bytes() / times[0].us;
    m.integer_peak[u] = 1e-3 * n * integer_operations() / times[1].best;  // peaks: of the best run
    m.float_peak[u] = 1e-3 * n * float_operations() / times[2].best;
  }
}

}  // namespace bench
