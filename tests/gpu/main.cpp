// SPDX-License-Identifier: Apache-2.0
// Runs the tests of kernels on the first GPU; without one it exits with 77.
#include "gpu/memory.hpp"

#include <cstdio>
#include <cstdlib>

#include <cuda_runtime_api.h>
#include <unistd.h>

#define CATCH_CONFIG_RUNNER
#include "catch.hpp"

namespace {

int argument_count;
char** arguments;

int run_tests() {
  const int failed = Catch::Session().run(argument_count, arguments);
  const cudaError_t code = cudaDeviceSynchronize();
  if (code == cudaSuccess) return failed;
  std::printf("gpu_tests: the tests leave the GPU with: %s\n", cudaGetErrorString(code));
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  setenv("CUDA_LAUNCH_BLOCKING", "1", 1);  // tests read results right after a launch
  int devices = 0;
  cudaDeviceProp card;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0 || cudaGetDeviceProperties(&card, 0) != cudaSuccess) {
    std::printf("gpu_tests: no GPU that the driver knows; skipped\n");
    return 77;
  }
  if (const char* why = gpu::open_memory()) {
    std::printf("gpu_tests: no memory of the host for tests and GPU to share: %s\n", why);
    return 1;
  }
  std::printf("gpu_tests: %s, compute capability %d.%d\n", card.name, card.major, card.minor);
  argument_count = argc;
  arguments = argv;
  const int result = gpu::on_own_stack(run_tests);
  std::fflush(nullptr);
  _exit(result);  // what objects of the program hold is gone with the driver, which would end before they do
}
