// SPDX-License-Identifier: Apache-2.0
// Work on a stream, captured once and replayed, and times of several such in turn.
#pragma once
#include <algorithm>
#include <cmath>
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

/// The stream that all measuring uses.
inline cudaStream_t stream() {
  static const cudaStream_t one = [] {
    cudaStream_t s = nullptr;
    TERSEKV_CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
  }();
  return one;
}

/// Between host and card, or within either, in order of the stream, which does not wait for the default one; waits.
/// Where there are no bytes pointers may be null.
inline void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  TERSEKV_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream()));
  TERSEKV_CUDA(cudaStreamSynchronize(stream()));
}

/// Memory of the card.
class device_memory {
 public:
  explicit device_memory(std::size_t bytes) { TERSEKV_CUDA(cudaMalloc(&data_, bytes > 0 ? bytes : 1)); }
  template <class T>
  explicit device_memory(const std::vector<T>& host) : device_memory(host.size() * sizeof(T)) {
    copy_bytes(data_, host.data(), host.size() * sizeof(T));
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
    copy_bytes(out.data(), data_, count * sizeof(T));
    return out;
  }

 private:
  void* data_ = nullptr;
};

/// Occupies the stream for some time, so that the host has enqueued what follows before the card comes to it.
void keep_busy(double us = 100);

/// Time between two places in the stream.
class stopwatch {
 public:
  stopwatch() {
    for (cudaEvent_t& e : events_) TERSEKV_CUDA(cudaEventCreate(&e));
  }
  ~stopwatch() {
    for (cudaEvent_t e : events_) cudaEventDestroy(e);
  }
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;

  void start() const { TERSEKV_CUDA(cudaEventRecord(events_[0], stream())); }
  /// Microseconds since start(); waits.
  double stop() const {
    TERSEKV_CUDA(cudaEventRecord(events_[1], stream()));
    TERSEKV_CUDA(cudaEventSynchronize(events_[1]));
    float ms = 0;
    TERSEKV_CUDA(cudaEventElapsedTime(&ms, events_[0], events_[1]));
    return 1e3 * static_cast<double>(ms);
  }

 private:
  cudaEvent_t events_[2] = {};
};

/// How many steps of about `us` a graph has: the few microseconds that a replay takes by itself are shared by 32 steps,
/// or are less than a hundredth of it.
inline int enough_steps(double us) { return std::clamp(static_cast<int>(std::ceil(1000 / us)), 1, 32); }

/// `steps` calls of work(step) in a row, as one graph; before() precedes each replay and is not timed.
class graph {
 public:
  graph(int steps, const std::function<void(int)>& work, std::function<void()> before = {})
      : steps_(steps), before_(std::move(before)) {
    cudaGraph_t captured = nullptr;
    TERSEKV_CUDA(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
    try {
      for (int i = 0; i < steps; ++i) work(i);
    } catch (...) {  // a stream that still captures refuses whatever comes next
      if (cudaStreamEndCapture(stream(), &captured) == cudaSuccess) cudaGraphDestroy(captured);
      throw;
    }
    TERSEKV_CUDA(cudaStreamEndCapture(stream(), &captured));
    const cudaError_t made = cudaGraphInstantiate(&graph_, captured, 0);
    cudaGraphDestroy(captured);
    cuda_check(made, "cudaGraphInstantiate");
    TERSEKV_CUDA(cudaGraphUpload(graph_, stream()));
  }
  ~graph() { cudaGraphExecDestroy(graph_); }
  graph(const graph&) = delete;
  graph& operator=(const graph&) = delete;

  /// Microseconds of one step.
  double replay() const {
    if (before_) before_();
    keep_busy();
    time_.start();
    TERSEKV_CUDA(cudaGraphLaunch(graph_, stream()));
    return time_.stop() / steps_;
  }

 private:
  int steps_;
  std::function<void()> before_;
  stopwatch time_;
  cudaGraphExec_t graph_ = nullptr;
};

/// Of durations in us.
inline timing summary(std::vector<double>& us) {
  return {quantile(us, 0.5), quantile(us, 0.25), quantile(us, 0.75), static_cast<int>(us.size()), 0, quantile(us, 0)};
}

/// Of one step of each: all graphs in turn, round after round, after two rounds that do not count.
inline std::vector<timing> in_turn(const std::vector<std::unique_ptr<graph>>& graphs, int rounds) {
  std::vector<std::vector<double>> us(graphs.size());
  for (int round = -2; round < rounds; ++round)
    for (std::size_t i = 0; i < graphs.size(); ++i) {
      const double time = graphs[i]->replay();
      if (round >= 0) us[i].push_back(time);
    }
  std::vector<timing> out;
  for (auto& x : us) out.push_back(summary(x));
  return out;
}

}  // namespace bench
