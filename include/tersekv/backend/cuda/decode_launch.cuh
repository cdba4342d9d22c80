// SPDX-License-Identifier: Apache-2.0
// Starts decode attention: which kernel for which dimensions, where things stand in the workspace.
#pragma once
#include <cstddef>
#include <type_traits>

#include <tersekv/backend/cuda/decode.cuh>
#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/backend/cuda/mass.cuh>
#include <tersekv/backend/cuda/merge.cuh>

namespace tersekv::detail {

/// Whether decode.cuh has a kernel for pages of this kind.
template <class Page>
constexpr bool decodes_packed() {
  return decode_format<typename Page::key_format>::reads_keys &&
         decode_format<typename Page::value_format>::reads_values;
}

template <int Keys, int Values>
struct decode_dims {
  static constexpr int key_dim = Keys, value_dim = Values;
};

/// Calls f(decode_dims<key_dim, value_dim>) where there are kernels for these dimensions; false where there are none.
template <class F>
bool with_decode_dims(int key_dim, int value_dim, F&& f) {
  const auto is = [&](int k, int v) { return key_dim == k && value_dim == v; };
  if (is(128, 128))
    f(decode_dims<128, 128>{});
  else if (is(64, 64))
    f(decode_dims<64, 64>{});
  else if (is(96, 96))
    f(decode_dims<96, 96>{});
  else if (is(192, 128))
    f(decode_dims<192, 128>{});
  else if (is(256, 256))
    f(decode_dims<256, 256>{});
  else
    return false;
  return true;
}
inline bool decodes_dims(int key_dim, int value_dim) {
  return with_decode_dims(key_dim, value_dim, [](auto) {});
}

/// Partial results, then the logarithms of all sums, then what column_mass needs.
struct decode_workspace {
  decode_plan plan;
  int value_dim;
  bool recorded;

  std::size_t sums_at() const { return plan.parts() * static_cast<std::size_t>(value_dim) * sizeof(float); }
  std::size_t log2_sum_at() const { return sums_at() + plan.parts() * 2 * sizeof(float); }
  std::size_t references_at() const {
    return log2_sum_at() + static_cast<std::size_t>(plan.sequences * plan.kv_heads) *
                               static_cast<std::size_t>((plan.query_rows + 3) / 4 * 4) * sizeof(float);
  }
  std::size_t octets() const { return recorded ? plan.recorded(plan.sequences, 0, 0, 0) : 0; }
  std::size_t weights_at() const { return (references_at() + octets() * 8 * sizeof(float) + 15) / 16 * 16; }
  std::size_t bytes() const { return weights_at() + octets() * 32 * 4 * sizeof(unsigned); }

  template <class T>
  static T* at(void* workspace, std::size_t offset) {
    return reinterpret_cast<T*>(static_cast<std::byte*>(workspace) + offset);
  }
  decode_record record(void* workspace) const {
    if (!recorded) return {};
    return {at<unsigned>(workspace, weights_at()), at<float>(workspace, references_at())};
  }
};

/// Bytes of workspace; aligned to 16. recorded: column_mass follows.
inline std::size_t decode_workspace_bytes(const attend_shape& shape, int value_dim, const decode_limits& most,
                                          bool recorded) {
  return decode_workspace{decode_plan(shape, most), value_dim, recorded}.bytes();
}

/// Attends every query of the batch to its head's rows and the step's own, and writes query.out and query.log_sum_exp.
/// Needs   decodes_packed<Page>(), decodes_dims(...), tokens * group <= 32 or one token; counts within `most`
/// Leaves  in the workspace what column_mass needs, where `recorded`
/// Errors  cuda_error
template <class Page>
void packed_attention(const Page& page, const attend_shape& shape, const device_query* batch, const decode_limits& most,
                      void* workspace, bool recorded, const page_lists& lists, cuda_stream stream) {
  static_assert(decodes_packed<Page>());
  const decode_workspace room{decode_plan(shape, most), page.value_dim, recorded};
  const decode_plan& plan = room.plan;
  auto* out = decode_workspace::at<float>(workspace, 0);
  auto* sums = decode_workspace::at<float2>(workspace, room.sums_at());
  const decode_arguments arguments{plan, shape, batch, out, sums, lists, room.record(workspace)};
  const auto dims = [](int n) { return static_cast<unsigned>(n); };
  with_decode_dims(page.key_dim, page.value_dim, [&]<class D>(D) {
    constexpr int KD = D::key_dim, VD = D::value_dim;
    const auto start = [&]<int N>(std::integral_constant<int, N>) {
      using traits = decode_traits<Page, KD, VD, N>;
      const int passes = decode_plan::divide(plan.query_rows, 8 * N);
      launch(decode_kernel<traits>, dim3(dims(plan.splits()), dims(plan.kv_heads * passes), dims(plan.sequences)),
             traits::threads, traits::memory::bytes, stream, arguments);
    };
    constexpr int most = KD + VD <= 256 ? 2 : 1;  // what registers hold
    if (plan.query_rows > 8)
      start(std::integral_constant<int, most>{});
    else
      start(std::integral_constant<int, 1>{});
  });
  launch(merge_kernel<>, dim3(dims(plan.query_rows), dims(plan.kv_heads), dims(plan.sequences)), 128, 0, stream,
         {plan, shape, batch, out, sums, decode_workspace::at<float>(workspace, room.log2_sum_at()), lists,
          page.value_dim, Page::rows / 32});
}

/// mass[sequence, kv_head, token, row] = the mean over the group's query heads of the row's attention, after
/// packed_attention with the same arguments. Rows stand as sinks | packed | window | own; each that was read is written
/// once, others are left as they are. Tokens from signal_rows on are left out.
template <class Page>
void column_mass(const Page& page, const attend_shape& shape, const device_query* batch, const decode_limits& most,
                 void* workspace, const page_lists& lists, const batch_of<step_mass>& targets, cuda_stream stream) {
  const decode_workspace room{decode_plan(shape, most), page.value_dim, true};
  const decode_plan& plan = room.plan;
  const auto dims = [](int n) { return static_cast<unsigned>(n); };
  launch(mass_kernel<>,
         dim3(dims(decode_plan::divide(plan.pieces, 4)), dims(plan.kv_heads * most.tokens), dims(plan.sequences)), 128,
         0, stream,
         {plan, shape, batch, room.record(workspace), decode_workspace::at<float>(workspace, room.log2_sum_at()), lists,
          targets, Page::rows / 32});
}

}  // namespace tersekv::detail
