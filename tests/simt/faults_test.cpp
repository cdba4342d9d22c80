// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
// Kernels that break a rule, and what the harness says.
#include "catch.hpp"

#include <cmath>
#include <initializer_list>
#include <string>

#include <tersekv/backend/cuda/device.cuh>
#include "simt/buffer.hpp"
#include "simt/schedules.hpp"

using namespace tersekv::detail;

namespace faults_test {

struct arguments {
  float* data = nullptr;
};
using two_regions = shared_layout<region<float, 30>, region<float, 64>>;

void expect(void (*kernel)(arguments), unsigned threads, std::initializer_list<const char*> phrases,
            float* data = nullptr) {
  std::string report = "nothing found";
  try {
    launch(kernel, 1, threads, two_regions::bytes, nullptr, {data});
  } catch (const simt::fault& fault) {
    report = fault.what();
  }
  INFO(report);
  for (const char* phrase : phrases) CHECK(report.find(phrase) != std::string::npos);
}

__global__ void barrier_in_a_branch(arguments) {
  if (threadIdx.x < 32) __syncthreads();
}
__global__ void barriers_in_both_branches(arguments) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void outside_its_mask(arguments) { __shfl_xor_sync(0xffffu, 1, 1); }
__global__ void reads_outside_the_mask(arguments) {
  if (threadIdx.x < 16) __shfl_xor_sync(0xffffu, 1, 16);
}
__global__ void different_collectives(arguments) {
  if (threadIdx.x < 16)
    __ballot_sync(all_lanes, true);
  else
    __shfl_sync(all_lanes, 1, 0);
}
__global__ void overlapping_masks(arguments) {
  if (threadIdx.x < 16)
    __syncwarp(0xffffu);
  else
    __syncwarp(all_lanes);
}
__global__ void calls_for_lanes_that_do_not_exist(arguments) { __syncwarp(); }
__global__ void waits_for_each_other(arguments) {
  if (threadIdx.x == 3)
    __syncthreads();
  else
    __syncwarp();
}
__global__ void misaligned_load(arguments a) { load(reinterpret_cast<const float4*>(a.data + 1)); }
__global__ void misaligned_copy(arguments a) { copy_async<16>(two_regions::get<1>(), a.data + 2); }
__global__ void copy_without_wait(arguments a) {
  copy_async<16>(two_regions::get<1>(), a.data);
  copy_commit();
}
__global__ void copy_waits_too_little(arguments a) {
  float* ring = two_regions::get<1>();
  copy_async<16>(ring, a.data);
  copy_commit();
  copy_wait<1>();
  a.data[8] = ring[0];
  copy_wait<0>();
  a.data[9] = ring[0];
}
__global__ void reads_unwritten_shared_memory(arguments a) {
  a.data[blockIdx.x] = two_regions::get<1>()[5];
  two_regions::get<1>()[5] = 1.0f;
}
TEST_CASE("a barrier that not all threads reach is a fault with a report", "[simt]") {
  for (const simt::options& schedule : simt::schedules) {
    const simt::with settings(schedule);
    expect(barrier_in_a_branch, 64, {"others", "faults_test.cpp:"});
    expect(barriers_in_both_branches, 64, {"meet in different barriers, also", "in __syncthreads at"});
  }
}

TEST_CASE("collectives and masks that do not fit are faults with a report", "[simt]") {
  for (const simt::options& schedule : simt::schedules) {
    const simt::with settings(schedule);
    expect(outside_its_mask, 32, {"whose mask leaves it out", "__shfl_xor_sync at", "faults_test.cpp:"});
    expect(reads_outside_the_mask, 32, {"reads a lane outside its mask"});
    expect(different_collectives, 32, {"meet in different collectives"});
    expect(overlapping_masks, 32, {"mask", "in __syncwarp at"});
    expect(calls_for_lanes_that_do_not_exist, 16, {"has ended or does not exist"});
  }
}

TEST_CASE("a deadlock names who waits where", "[simt]") {
  expect(waits_for_each_other, 32,
         {"deadlock: block (0, 0, 0)", "thread (3, 0, 0) in __syncthreads at", "thread (0, 0, 0) in __syncwarp at",
          "thread (31, 0, 0)", "faults_test.cpp:"});
}

TEST_CASE("an address that a vector access cannot have is a fault with a report", "[simt]") {
  const simt::buffer<float> data(16, 1.0f);
  expect(misaligned_load, 1, {"not a multiple of 16 bytes", "in load at"}, data.data());
  expect(misaligned_copy, 1, {"not a multiple of 16 bytes", "in copy_async at"}, data.data());
}

TEST_CASE("a copy that nobody waits for is a fault, and one read too early is not there yet", "[simt]") {
  const simt::buffer<float> data(16, 1.0f);
  expect(copy_without_wait, 1, {"copies that nobody waited for"}, data.data());
  expect(copy_waits_too_little, 1, {"nothing found"}, data.data());
  CHECK(std::isnan(data.host()[8]));
  CHECK(data.host()[9] == 1.0f);
}

TEST_CASE("shared memory is NaN before it is written, in every block anew", "[simt]") {
  const simt::buffer<float> data(2, 1.0f);
  launch(reads_unwritten_shared_memory, 2, 1, two_regions::bytes, nullptr, {data.data()});
  CHECK(std::isnan(data.host()[0]));
  CHECK(std::isnan(data.host()[1]));
}

#if defined(SIMT_ASAN)
__global__ void looks_at_red_zones(arguments a) {
  float* first = two_regions::get<0>();
  const auto forbidden = [](float* p) { return __asan_address_is_poisoned(p) ? 1.0f : 0.0f; };
  a.data[0] = forbidden(first + 29);
  a.data[1] = forbidden(first + 30);
  a.data[2] = forbidden(two_regions::get<1>() + 63);
  a.data[3] = forbidden(two_regions::get<1>() + 64);
}
TEST_CASE("AddressSanitizer knows where each region of shared memory ends", "[simt]") {
  const simt::buffer<float> data(4, 9.0f);
  expect(looks_at_red_zones, 1, {"nothing found"}, data.data());
  CHECK(data.host() == std::vector<float>{0, 1, 0, 1});
}
#endif

}  // namespace faults_test
