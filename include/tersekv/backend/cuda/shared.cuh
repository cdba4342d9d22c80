// SPDX-License-Identifier: Apache-2.0
// Shared memory: one dynamic block, cut by a compile-time layout.
//
//   using layout = shared_layout<region<uint4, 256>, region<float, 32>>;
//   uint4* tile = layout::get<0>();      float* sums = layout::get<1>();      launch(kernel, grid, block,
//   layout::bytes, ...)
#pragma once
#include <cstddef>
#include <tuple>

#include <tersekv/backend/cuda/target.cuh>
#include <tersekv/config.hpp>
#if defined(TERSEKV_SIMT)
#include "simt/shared.hpp"
#endif

namespace tersekv::detail {

#if !defined(TERSEKV_SIMT)
inline constexpr std::size_t shared_red_zone = 0;  // bytes between regions, which nobody may touch
__device__ __forceinline__ void forbid_shared(void*, std::size_t) {}
__device__ __forceinline__ std::byte* shared_base() {
  extern __shared__ __align__(128) unsigned char tersekv_dynamic_shared[];
  return reinterpret_cast<std::byte*>(tersekv_dynamic_shared);
}
#endif

/// What a block may have on every GPU from sm_80 on: sm_86 and sm_89 have the least.
inline constexpr std::size_t shared_everywhere = 99 * 1024;

/// N elements of T.
template <class T, std::size_t N>
struct region {
  using type = T;
  static constexpr std::size_t count = N;
};

/// Regions one after the other, each aligned to 16 bytes.
template <class... Regions>
struct shared_layout {
  template <std::size_t I>
  using element = typename std::tuple_element_t<I, std::tuple<Regions...>>::type;

  /// Byte offset of region i, where `gap` bytes follow each.
  TERSEKV_HD static constexpr std::size_t offset(std::size_t i, std::size_t gap) {
    constexpr std::size_t sizes[] = {(Regions::count * sizeof(typename Regions::type) + 15) / 16 * 16 ...};
    std::size_t at = 0;
    for (std::size_t k = 0; k < i; ++k) at += sizes[k] + gap;
    return at;
  }
  static constexpr std::size_t bytes = offset(sizeof...(Regions), shared_red_zone);  ///< to launch with
  static constexpr std::size_t device_bytes = offset(sizeof...(Regions), 0);         ///< of a GPU; bound this one

  /// Region I of the calling thread's block.
  template <std::size_t I>
  __device__ static element<I>* get() {
    constexpr std::size_t first = offset(I, shared_red_zone);
    constexpr std::size_t last = first + std::tuple_element_t<I, std::tuple<Regions...>>::count * sizeof(element<I>);
    forbid_shared(shared_base() + last, offset(I + 1, shared_red_zone) - last);
    return reinterpret_cast<element<I>*>(shared_base() + first);
  }
};

}  // namespace tersekv::detail
