// SPDX-License-Identifier: Apache-2.0
// tersekv::cuda: the same recipes on a GPU. Rows, codes and decisions are those of the CPU; pages hold the same bytes.
//
//   auto cache = tersekv::make_cache(shape, tersekv::cuda{stream}, tersekv::h2o{}, tersekv::int4<>{});
//
// Views that are given to steps name device memory. Work is enqueued on the stream, in order; verbs do not wait for it,
// except where a sequence needs more room (rarely), at the end of a trimmed prompt, and where the host asks what a
// sequence holds. One host thread at a time uses a cache.
//
// The stream outlives the cache and its sequences; while they are made, used and destroyed, its device is the current
// one. Memory is given back while kernels that read it may still be waiting in the stream: a memory resource of one's
// own hands it out again in order of that stream, as cudaFreeAsync does, or waits for the stream in deallocate.
#pragma once
#include <memory_resource>
#include <string_view>

#include <tersekv/backend/cuda/batch.cuh>
#include <tersekv/backend/cuda/device_form.hpp>
#include <tersekv/backend/cuda/policies.cuh>
#include <tersekv/tersekv.hpp>

namespace tersekv {

struct cuda {
  using role = tersekv::role::backend;
  using provides = tersekv::list<fact::attention_mass, fact::last_attention, fact::query_window>;
  static constexpr std::string_view name = "cuda";
  static constexpr bool on_device = true;

  cuda_stream stream = nullptr;
  std::pmr::memory_resource* memory = nullptr;  // of device memory, in order of the stream; null = the runtime's
  std::size_t max_bytes = 0;                    // pages, windows, columns; 0 = no limit
  bool check_numbers = true;                    // commit waits, and throws value_error where a row was not finite
  std::size_t scratch_bytes = 128 << 20;        // lists of a commit, which takes slots in turn where they need more
};

namespace detail {
template <class... Policies>
struct container<cuda, Policies...> {
  using core = device_core<cuda, Policies...>;
  using sequence = device_sequence<core>;
  using step = device_step<core>;
};
}  // namespace detail

}  // namespace tersekv
