// SPDX-License-Identifier: Apache-2.0
//
// The model's forward pass: RMS norm, rotary positions on interleaved pairs, grouped-query attention, SwiGLU.
// The runner keeps no keys and values: attention goes through a tersekv cache, whatever its recipe, and layers are
// visited in the order that the cache asks for. Nothing is allocated once the largest step has been seen.
#pragma once
#include <span>
#include <vector>

#include <tersekv/any_cache.hpp>
#include <tersekv/tersekv.hpp>

#include "checkpoint.hpp"

namespace lab {

namespace kv = tersekv;

kv::model_shape shape_of(const model_dims& dims);

struct feed_options {
  bool more = false;   // further pieces of this prompt follow, so it is not yet time to compress
  bool logits = true;  // false: the answer is not wanted, and is not computed
};

class runner {
 public:
  explicit runner(const model& m) : model_(m) {}

  /// Runs `tokens` as one step of `chat`, after those it has seen; returns the logits after the last token [vocab],
  /// valid until the next call. `cache` is the one that opened `chat`.
  std::span<const float> feed(kv::any_cache& cache, kv::any_sequence& chat, std::span<const int> tokens,
                              feed_options options = {});

  /// Time spent inside the cache (append, attend, commit) since the runner was made.
  double cache_seconds() const { return cache_seconds_; }

 private:
  struct buffers {
    std::vector<float> x;        // [n, dim] the residual stream
    std::vector<float> entry;    // [n, dim] x as it entered a range of layers that is run several times
    std::vector<float> normed;   // [n, dim]
    std::vector<float> qkv;      // [n, dim + 2 kv_dim]
    std::vector<float> mixed;    // [n, dim] what attention returns
    std::vector<float> gate_up;  // [n, 2 hidden]
    std::vector<float> logits;   // [vocab]
  };

  void prepare(kv::any_cache& cache, int first_position, int n);
  void rotate(int first_position, int n, int row_width, int heads, float* rows) const;
  template <class Step>
  void run_layer(kv::any_cache& cache, Step& step, int layer, int first_position, int n);

  const model& model_;
  buffers b_;
  std::vector<float> cosine_, sine_;  // [positions, head_dim / 2]
  decltype(std::declval<const kv::any_cache&>().schedule(1)) schedule_;
  const kv::any_cache* scheduled_cache_ = nullptr;
  int scheduled_n_ = 0;
  double cache_seconds_ = 0;
};

}  // namespace lab
