// SPDX-License-Identifier: Apache-2.0
// What a cache on a device and its sequences share: shape, layer plan, policies, page format, memory, pages, scratch.
// As core.hpp for the CPU.
#pragma once
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <tersekv/backend/cuda/described.cuh>
#include <tersekv/backend/cuda/mass.cuh>
#include <tersekv/backend/cuda/page_store.cuh>
#include <tersekv/backend/cuda/rows.hpp>
#include <tersekv/backend/cuda/stage.cuh>
#include <tersekv/core.hpp>

namespace tersekv {

template <class Core>
class device_sequence;

namespace detail {

/// Device memory of one open step; lent by the core, so that steady decoding allocates nothing.
struct device_workspace {
  explicit device_workspace(pool& memory)
      : staged(memory), mass(memory), queries(memory), sums(memory), faults(memory), changes(memory), window(memory),
        lists(memory), scratch(memory) {}
  device_buffer<std::byte> staged;      // [slots] keys, values: [n, kv_heads, dim] as the engine wrote them
  device_buffer<float> mass;            // [layers][kv_heads, signal rows, stride]
  device_buffer<float> queries;         // [layers][kept queries, query_heads, key_dim]
  device_buffer<float> sums;            // [n, query_heads] log-sum-exp, where the engine does not ask for it
  device_buffer<int> faults;            // [slots] keys, values, then [layers] queries: what faults.cuh writes
  device_buffer<int> changes;           // [slots] as compare_rows writes them
  device_buffer<float> window;          // what a window of queries needs at a trim
  device_buffer<std::byte> lists;       // of pages to be read
  device_buffer<std::byte> scratch;     // of the verb that runs
  std::vector<unsigned char> attended;  // [layers] in this step
  bool faultless = false;               // all words of faults are as they should be before a step
  std::int64_t signal_stride = 0;
  int window_queries = 0;
  std::size_t bytes() const {
    return staged.held() + mass.held() + queries.held() + sums.held() + faults.held() + changes.held() + window.held() +
           lists.held() + scratch.held();
  }
};

/// The memory of a cache: a base, so that it outlives all that was taken from it.
struct device_memory {
  device_memory(cuda_stream stream, std::pmr::memory_resource* wanted, std::size_t page_bytes, std::size_t max_bytes)
      : resource_(stream), memory(wanted ? wanted : &resource_, page_bytes, max_bytes),
        scratch(wanted ? wanted : &resource_, 0, 0) {}

 private:
  device_resource resource_;

 public:
  pool memory;   // of rows: pages, windows, columns
  pool scratch;  // of workspaces
};

}  // namespace detail

/// A recipe and its memory, on a device.
template <class... Policies>
struct device_core : recipe<Policies...>,
                     detail::device_memory,
                     detail::registry<detail::device_workspace, device_sequence<device_core<Policies...>>> {
  using base = recipe<Policies...>;
  using workspace = detail::device_workspace;
  static constexpr bool evicts = !requires { base::evict_type::keeps_all; };

  device_core(const model_shape& wanted, Policies... policies)
      : base(wanted, std::move(policies)...),
        device_memory(this->backend.stream, this->backend.memory, this->format.bytes(), this->backend.max_bytes),
        pages(memory, this->format.bytes(), this->backend.stream), commits(scratch), least_faults(scratch),
        tables_(scratch) {
    std::vector<int> tables;
    for (int l = 0; l < this->shape.layers; ++l) tables.push_back(this->plan.slot(l));
    for (int s = 0; s < this->plan.slots(); ++s) tables.push_back(this->plan.retained(s));
    tables_.renew(tables.size());
    detail::copy_to_device(tables_.data(), tables.data(), tables_.held(), this->backend.stream);
  }

  std::unique_ptr<workspace> borrow() {
    return detail::registry<workspace, device_sequence<device_core>>::borrow_in_turn(
        [&] { return std::make_unique<workspace>(scratch); });
  }

  /// Of working memory that no step holds.
  std::size_t idle_bytes() const {
    return detail::registry<workspace, device_sequence<device_core>>::idle_bytes() + commits.held();
  }

  /// What kernels need to know of a batch of steps that append or attend, in device memory.
  const detail::step_to_stage* describe(int layer, std::span<const detail::step_to_stage> rows) {
    return describe(stages_, layer, rows);
  }
  const detail::device_query* describe(int layer, std::span<const detail::device_query> queries) {
    return describe(queries_, layer, queries);
  }
  const detail::step_mass* describe(int layer, std::span<const detail::step_mass> targets) {
    return describe(masses_, layer, targets);
  }

  const int* slot_of_layer() const { return tables_.data(); }
  const int* retained() const { return tables_.data() + this->shape.layers; }

  detail::page_store pages;
  detail::device_buffer<std::byte> commits;  // scratch of the commit that runs
  detail::device_buffer<int> least_faults;   // [steps of a batch] likewise

 private:
  template <class T>
  const T* describe(std::vector<detail::described<T>>& all, int layer, std::span<const T> wanted) {
    while (all.size() < static_cast<std::size_t>(this->shape.layers)) all.emplace_back(scratch);
    return all[static_cast<std::size_t>(layer)].write(wanted, this->backend.stream);
  }

  std::vector<detail::described<detail::step_to_stage>> stages_;  // [layers] of the last call
  std::vector<detail::described<detail::step_mass>> masses_;      // likewise
  std::vector<detail::described<detail::device_query>> queries_;  // likewise
  detail::device_buffer<int> tables_;  // slot of every layer, then positions that readers of every slot see
};

}  // namespace tersekv
