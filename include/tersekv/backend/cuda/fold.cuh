// SPDX-License-Identifier: Apache-2.0
// Where the content of leaving rows goes, on the device: the merge policies' fold() for all heads of a batch.
// After select_rows; keys and values of the lists are numbers here, and are changed in place.
#pragma once
#include <tersekv/backend/cuda/select.cuh>

namespace tersekv::detail {

template <class Merge>
struct fold_arguments : head_lists {
  Merge merge;
  batch_of<typename Merge::head_state*> states;  // of each sequence [slots, kv_heads]
  int first_column, columns;                     // the merger's own columns of state, those of all policies
  bool rewrites_packed;                          // packed rows may be rewritten
  float *keys, *values;                          // [heads, most_rows, dim] of the lists

  // in the workspace: [heads, most_rows] unless said otherwise
  unsigned char* changed;  // rows that were rewritten: the answer, with keys, values, bias and columns
  float* bias;             // of the lists' rows; null without log_mass
  int *from, *to;          // rows that give and rows that may take, ascending
  int *gives, *takes;      // [heads] how many; both zero where nothing is folded
  int* nearest;            // of each that gives: the row it is most similar to
  float *cosine, *norm;    // and the similarity; lengths of keys

  __device__ float* key(std::int64_t row) const { return keys + row * shape.key_dim; }
  __device__ float* value(std::int64_t row) const { return values + row * shape.value_dim; }
};

template <class Merge>
void carve_fold(carver& from, fold_arguments<Merge>& a) {
  const auto heads = static_cast<std::size_t>(a.shape.heads()),
             rows = heads * static_cast<std::size_t>(a.shape.most_rows);
  from.take(a.changed, rows);
  if constexpr (requires { Merge::carries_mass; }) from.take(a.bias, rows);
  for (int** list : {&a.from, &a.to, &a.nearest}) from.take(*list, rows);
  for (int** count : {&a.gives, &a.takes}) from.take(*count, heads);
  for (float** number : {&a.cosine, &a.norm}) from.take(*number, rows);
}

/// Who gives and who takes, as rows_to_fold() has it.
template <class Merge>
__global__ void fold_roles_kernel(fold_arguments<Merge> a) {
  int* scratch = list_layout::get<0>();
  const head_place at(a.shape);
  const device_head& head = a.batch[at.sequence].heads[at.of_sequence(a.shape)];
  const std::int64_t base = a.first(at.index);
  const int rows = a.lists.rows[at.index], first_seen = a.first_seen(at);
  const bool into_recent = Merge::on_device::into_recent(a.merge), guarded = Merge::on_device::guarded(a.merge);
  int gives = 0, takes = 0;
  for (int first = 0; first < rows; first += static_cast<int>(blockDim.x)) {
    const int j = first + static_cast<int>(threadIdx.x);
    bool give = false, take = false;
    if (j < rows) {
      const std::int64_t row = base + j;
      const int source = a.lists.source[row];
      const protection guard = a.lists.guard[row];
      const bool apart = !guarded && guard > protection::recent, recent = guard == protection::recent;
      const bool packed = source >= head.sinks && source < head.sinks + head.packed;
      give = !a.lists.keep[row] && a.lists.position[row] >= first_seen && !apart && !recent;
      take = a.lists.keep[row] && !apart && (into_recent || !recent) && (a.rewrites_packed || !packed);
      a.changed[row] = 0;
      if (a.bias) a.bias[row] = source < head.rows() && head.bias ? head.bias[source] : 0.0f;
    }
    int count;
    const int give_rank = block_rank(give, scratch, count);
    if (give) a.from[base + gives + give_rank] = j;
    gives += count;
    const int take_rank = block_rank(take, scratch, count);
    if (take) a.to[base + takes + take_rank] = j;
    takes += count;
  }
  if (threadIdx.x == 0) {
    a.gives[at.index] = takes > 0 ? gives : 0;
    a.takes[at.index] = gives > 0 ? takes : 0;
  }
}

/// One warp for every row of the lists, of which as many work as rows may take.
inline constexpr unsigned taking_warps = 8;
inline dim3 grid_of_takers(const commit_shape& s) {
  return dim3((static_cast<unsigned>(s.most_rows) + taking_warps - 1) / taking_warps,
              static_cast<unsigned>(s.slots * s.kv_heads), static_cast<unsigned>(s.sequences));
}

/// Log mass of a row that takes over that of row `from`.
template <class Merge>
__device__ float joint_mass(const fold_arguments<Merge>& a, float mine, std::int64_t from) {
  return a.bias ? joint_log(mine, a.bias[from]) : 0.0f;
}

/// Folds the leavers of all heads. carve_fold() has filled `a`.
template <class Merge>
void fold_rows(const fold_arguments<Merge>& a, cuda_stream stream) {
  if constexpr (have_device_forms<Merge>::value) {
    launch(fold_roles_kernel<Merge>, a.grid(), a.shape.threads, list_layout::bytes, stream, a);
    Merge::on_device::fold(a, stream);
  }
}

}  // namespace tersekv::detail
