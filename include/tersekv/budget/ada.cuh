// SPDX-License-Identifier: Apache-2.0
// ada on the device. The first kernel finds for every head which rows it is sure of, the second lets the heads of a
// slot share the others.
#pragma once
#include <tersekv/backend/cuda/select.cuh>
#include <tersekv/budget/ada.hpp>

namespace tersekv {

struct ada_on_device {
  template <class Evict>
  struct arguments {
    detail::list_arguments<Evict> list;
    ada budget;
    int base;  // evict.budget()
  };

  /// Unprotected rows of a head by worth.
  template <class Evict>
  __device__ static std::uint64_t worth_of(const detail::list_arguments<Evict>& list, int head, int j) {
    const std::int64_t i = list.first(head) + j;
    if (list.lists.guard[i] != protection::none) return 0;
    return detail::row_worth(protection::none, false, list.lists.score[i], j);
  }

  template <class Evict>
  static void allocate(const ada& budget, const detail::list_arguments<Evict>& list, cuda_stream stream);
};

namespace detail {

/// Fills row_lists::allowed with the rows that each head is sure of, ::sure with the least of them, ::open.
template <class Evict>
__global__ void ada_sure_kernel(ada_on_device::arguments<Evict> a) {
  int* scratch = select_layout::get<0>();
  const head_place at(a.list.shape);
  const row_lists& lists = a.list.lists;
  const int rows = lists.rows[at.index];
  int forced = 0, own = 0;
  for (int j = static_cast<int>(threadIdx.x); j < rows; j += static_cast<int>(blockDim.x)) {
    const protection guard = lists.guard[a.list.first(at.index) + j];
    forced += guard == protection::caller;
    own += guard == protection::none;
  }
  forced = block_sum(forced, scratch);
  own = block_sum(own, scratch);
  const int guarded = lists.guarded[at.index] < a.base ? lists.guarded[at.index] : a.base;
  const int safe = forced > guarded ? forced : guarded;  // protected rows that stay
  const int b = a.base > safe ? a.base - safe : 0;
  int sure = a.budget.secured(b);
  if (safe == 0 && sure == 0 && b > 0) sure = 1;  // no head is left empty
  if (sure > own) sure = own;
  std::uint64_t least = ~std::uint64_t{0};
  if (sure > 0)
    least = block_select(
        rows, sure, [&](int j) { return ada_on_device::worth_of(a.list, at.index, j); }, select_layout::get<1>());
  if (threadIdx.x == 0) {
    lists.allowed[at.index] = safe + sure;
    lists.open[at.index] = b - sure;
    lists.sure[at.index] = least;
  }
}

/// Adds to row_lists::allowed what each head wins of the slot's open rows.
/// Shapes  grid (1, slots, sequences)
template <class Evict>
__global__ void ada_joint_kernel(ada_on_device::arguments<Evict> a) {
  int* scratch = select_layout::get<0>();
  const row_lists& lists = a.list.lists;
  const int heads = a.list.shape.kv_heads, first = static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y) * heads;
  int room = 0, longest = 0;
  for (int h = 0; h < heads; ++h) {
    room += lists.open[first + h];
    longest = lists.rows[first + h] > longest ? lists.rows[first + h] : longest;
  }
  // by score, then the newer row of its head, then the earlier head; 0 where the head is sure of the row, or may not
  const auto key = [&](int h, int j) -> std::uint64_t {
    const int rows = lists.rows[first + h];
    const std::uint64_t own = j < rows ? ada_on_device::worth_of(a.list, first + h, j) : 0;
    if (own == 0 || own >= lists.sure[first + h]) return 0;
    const auto later = static_cast<std::uint32_t>((rows - j) * heads + h);
    return own >> 30 << 32 | (0xffffffffu - later);
  };
  int candidates = 0;
  for (int h = 0; h < heads; ++h)
    for (int j = static_cast<int>(threadIdx.x); j < lists.rows[first + h]; j += static_cast<int>(blockDim.x))
      candidates += key(h, j) != 0;
  candidates = block_sum(candidates, scratch);
  if (room > candidates) room = candidates;
  if (room == 0) return;  // all threads
  const std::uint64_t least = block_select(
      longest * heads, room, [&](int i) { return key(i % heads, i / heads); }, select_layout::get<1>());
  for (int h = 0; h < heads; ++h) {
    int won = 0;
    for (int j = static_cast<int>(threadIdx.x); j < lists.rows[first + h]; j += static_cast<int>(blockDim.x))
      won += key(h, j) >= least;
    won = block_sum(won, scratch);
    if (threadIdx.x == 0) lists.allowed[first + h] += won;
  }
}

}  // namespace detail

template <class Evict>
void ada_on_device::allocate(const ada& budget, const detail::list_arguments<Evict>& list, cuda_stream stream) {
  const arguments<Evict> a{list, budget, list.evict.budget()};
  detail::launch(detail::ada_sure_kernel<Evict>, list.grid(), list.shape.threads, detail::select_layout::bytes, stream,
                 a);
  const dim3 slots(1, static_cast<unsigned>(list.shape.slots), static_cast<unsigned>(list.shape.sequences));
  detail::launch(detail::ada_joint_kernel<Evict>, slots, list.shape.threads, detail::select_layout::bytes, stream, a);
}

}  // namespace tersekv
