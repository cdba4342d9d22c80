// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan tsan
#include "simt/sample_checks.hpp"

#include "catch.hpp"
#include "simt/schedules.hpp"

TEST_CASE("a ring of copies and a merge of blocks add the same numbers under every schedule", "[simt]") {
  for (const simt::options& schedule : simt::schedules) {
    const simt::with settings(schedule);
    CHECK(samples::sum_is_right(1, 1));
    CHECK(samples::sum_is_right(512, 3));          // blocks without a tile
    CHECK(samples::sum_is_right(512 * 9 + 5, 1));  // the ring turns three times and ends inside a piece
    CHECK(samples::sum_is_right(512 * 20 - 3, 3));
  }
}

TEST_CASE("blocks that are freed while others run are no race", "[simt]") { CHECK(samples::sum_is_right(5, 20)); }

TEST_CASE("a product on tensor cores equals a plain one under every schedule", "[simt]") {
  for (const simt::options& schedule : simt::schedules) {
    const simt::with settings(schedule);
    CHECK(samples::product_is_right(1, 16));
    CHECK(samples::product_is_right(3, 80));
  }
}

TEST_CASE("a launch that no GPU accepts is a fault", "[simt]") {
#if defined(__CUDACC__)
  using fault = tersekv::cuda_error;
#else
  using simt::fault;
#endif
  const samples::product_arguments nothing{};
  const auto launch = [&](dim3 grid, dim3 block, std::size_t shared_bytes) {
    tersekv::detail::launch(samples::product<2>, grid, block, shared_bytes, nullptr, nothing);
  };
  CHECK_THROWS_AS(launch(0, 32, 0), fault);
  CHECK_THROWS_AS(launch(1, 0, 0), fault);
  CHECK_THROWS_AS(launch(1, dim3(32, 33), 0), fault);
  CHECK_THROWS_AS(launch(dim3(1, 70000), 32, 0), fault);
  CHECK_THROWS_AS(launch(1, 32, 1 << 20), fault);
}
