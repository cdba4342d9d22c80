// SPDX-License-Identifier: Apache-2.0
// Work on a stream, captured once and replayed, and times of several such in turn.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include <tersekv/backend/cuda/launch.cuh>

#include "../measure.hpp"

namespace bench {

using tersekv::detail::cuda_check;
#define TERSEKV_CUDA(call) ::tersekv::detail::cuda_check(call, #call)

/// Memory of the card.
class device_memory {
 public:
  explicit device_memory(std::size_t bytes) { TERSEKV_CUDA(cudaMalloc(&data_, bytes > 0 ? bytes : 1)); }
  template <class T>
  explicit device_memory(const std::vector<T>& host) : device_memory(host.size() * sizeof(T)) {
    TERSEKV_CUDA(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyDefault));
  }
  ~device_memory() { cudaFree(data_); }
  device_memory(const device_memory&) = delete;
  device_memory& operator=(const device_memory&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  template <class T>
  std::vector<T> host(std::size_t count) const {
    std::vector<T> out(count);
    TERSEKV_CUDA(cudaMemcpy(out.data(), data_, count * sizeof(T), cudaMemcpyDefault));
    return out;
  }

 private:
  void* data_ = nullptr;
};

/// The stream that all measuring uses.
inline cudaStream_t stream() {
  static const cudaStream_t one = [] {
    cudaStream_t s = nullptr;
    TERSEKV_CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
  }();
  return one;
}

/// `steps` calls of work(step) in a row, as one graph; before() precedes each replay and is not timed.
class graph {
 public:
  graph(int steps, const std::function<void(int)>& work, std::function<void()> before = {})
      : steps_(steps), before_(std::move(before)) {
    cudaGraph_t captured = nullptr;
    TERSEKV_CUDA(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < steps; ++i) work(i);
    TERSEKV_CUDA(cudaStreamEndCapture(stream(), &captured));
    TERSEKV_CUDA(cudaGraphInstantiate(&graph_, captured, 0));
    TERSEKV_CUDA(cudaGraphDestroy(captured));
    for (cudaEvent_t& e : events_) TERSEKV_CUDA(cudaEventCreate(&e));
  }
  ~graph() {
    cudaGraphExecDestroy(graph_);
    for (cudaEvent_t e : events_) cudaEventDestroy(e);
  }
  graph(const graph&) = delete;
  graph& operator=(const graph&) = delete;

  /// Microseconds of one step.
  double replay() const {
    if (before_) before_();
    TERSEKV_CUDA(cudaEventRecord(events_[0], stream()));
    TERSEKV_CUDA(cudaGraphLaunch(graph_, stream()));
    TERSEKV_CUDA(cudaEventRecord(events_[1], stream()));
    TERSEKV_CUDA(cudaEventSynchronize(events_[1]));
    float ms = 0;
    TERSEKV_CUDA(cudaEventElapsedTime(&ms, events_[0], events_[1]));
    return 1e3 * static_cast<double>(ms) / steps_;
  }

 private:
  int steps_;
  std::function<void()> before_;
  cudaGraphExec_t graph_ = nullptr;
  cudaEvent_t events_[2] = {};
};

/// Of one step of each: all graphs in turn, round after round, after two rounds that do not count.
inline std::vector<timing> in_turn(const std::vector<std::unique_ptr<graph>>& graphs, int rounds) {
  std::vector<std::vector<double>> us(graphs.size());
  for (int round = -2; round < rounds; ++round)
    for (std::size_t i = 0; i < graphs.size(); ++i) {
      const double time = graphs[i]->replay();
      if (round >= 0) us[i].push_back(time);
    }
  std::vector<timing> out;
  for (auto& x : us) out.push_back({quantile(x, 0.5), quantile(x, 0.25), quantile(x, 0.75), rounds, 0, quantile(x, 0)});
  return out;
}

}  // namespace bench
