// SPDX-License-Identifier: Apache-2.0
// What the machine can do, measured in the same run as everything that is compared with it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <vector>

#include "team.hpp"

namespace bench {

struct machine {
  std::string cpu, compiler, isa;
  std::size_t last_level_cache = 0;  // bytes
  std::size_t memory = 0;            // bytes
  // By number of threads; [0] is unused.
  std::vector<double> bandwidth;     // GB/s, reading
  std::vector<double> integer_peak;  // 1e9 multiplications and additions per second, products of 8 bits
  std::vector<double> float_peak;    // the same, f32
};

/// Reads memory that no cache holds, several streams per thread.
class memory_stream {
 public:
  memory_stream(std::size_t last_level_cache, std::pmr::memory_resource* memory);
  void read(team& threads);
  double bytes() const { return static_cast<double>(words_.size() * sizeof(std::uint64_t)); }

 private:
  std::pmr::vector<std::uint64_t> words_;
  std::uint64_t sum_ = 0;
};

/// Names and sizes only.
machine describe_machine();
/// Bandwidth and peaks with 1 .. most threads.
void measure_machine(machine& m, memory_stream& stream, team& threads, int most);

}  // namespace bench
