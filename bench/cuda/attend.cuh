// SPDX-License-Identifier: Apache-2.0
// Decode attention over one recipe's rows, behind an interface, so that each recipe's kernels are compiled once.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include <tersekv/backend/cuda/decode_launch.cuh>
#include <tersekv/backend/cuda/reference.cuh>

#include "rows.cuh"
#include "session.hpp"

namespace bench {

class decoding {
 public:
  virtual ~decoding() = default;
  /// Steps of one token, each over the next copy of the rows; with the attention mass of every row, or without.
  virtual std::unique_ptr<graph> steps(int group, int count, bool mass = false) = 0;
  /// Of the outputs of the last step's first sequences against the reference.
  virtual double error(int group) = 0;
};

struct recipe {
  std::string name;
  double share;  // of the copy rate that the kernel must reach
  std::size_t (*bytes)(batch_shape);
  std::unique_ptr<decoding> (*make)(batch_shape, int copies);
};
/// Copies of the rows, that a step finds none of its own in L2.
inline int copies_of(const recipe& r, batch_shape shape, const session& s) {
  return static_cast<int>(4 * s.card.l2 / r.bytes(shape) + 1);
}
/// Steps of a graph that reads all copies.
inline int steps_of(const recipe& r, batch_shape shape, const session& s) {
  return std::max(copies_of(r, shape, s), enough_steps(1e-3 * static_cast<double>(r.bytes(shape)) / s.card.copy));
}
std::vector<recipe> recipes_of_numbers();
std::vector<recipe> recipes_of_bytes();
std::vector<recipe> recipes_of_few_bits();

template <class Codec>
class decoding_of final : public decoding {
 public:
  decoding_of(batch_shape shape, int copies) : shape_(shape), copies_(copies), rows_(shape, copies) {}

  std::unique_ptr<graph> steps(int group, int count, bool mass) override {
    prepare(group);
    return std::make_unique<graph>(count, [&](int step) {
      const kd::device_query* now = batch(step % copies_);
      kd::packed_attention(rows_.page, logits(shape_, group), now, most(), workspace_->as<char>(), mass, {}, stream());
      if (mass)
        kd::column_mass(rows_.page, logits(shape_, group), now, most(), workspace_->as<char>(), {},
                        targets_->as<kd::step_mass>(), stream());
    });
  }
  double error(int group) override {
    prepare(group);
    const int sequences = std::min(2, shape_.sequences);
    const auto run = [&](const auto& attend) {
      attend();
      TERSEKV_CUDA(cudaStreamSynchronize(stream()));
      return arrays_->out(sequences);
    };
    const auto out = run([&] {
      kd::packed_attention(rows_.page, logits(shape_, group), batch(0), most(), workspace_->as<char>(), false, {},
                           stream());
    });
    const auto right = run([&] {
      kd::reference_attention(rows_.page, logits(shape_, group), batch(0), sequences, 1, nullptr, {}, stream());
    });
    return difference(out, right);
  }

 private:
  int mass_stride() const { return shape_.rows + 1; }
  kd::decode_limits most() const { return {shape_.sequences, 1, shape_.rows, 0}; }
  const kd::device_query* batch(int copy) const {
    return batches_->as<kd::device_query>() + std::ptrdiff_t{copy} * shape_.sequences;
  }
  void prepare(int group) {
    if (group == group_) return;
    group_ = group;
    arrays_ = std::make_unique<engine_arrays>(shape_, group, 1);
    std::vector<kd::device_query> all;
    for (int copy = 0; copy < copies_; ++copy) {
      const auto one = arrays_->batch(rows_.heads(copy));
      all.insert(all.end(), one.begin(), one.end());
    }
    batches_ = std::make_unique<device_memory>(all);
    workspace_ = std::make_unique<device_memory>(kd::decode_workspace_bytes(logits(shape_, group), dim, most(), true));
    mass_ = std::make_unique<device_memory>(shape_.heads() * static_cast<std::size_t>(mass_stride()) * sizeof(float));
    std::vector<kd::step_mass> targets;
    for (int q = 0; q < shape_.sequences; ++q)
      targets.push_back({mass_->as<float>() + std::ptrdiff_t{q} * shape_.kv_heads * mass_stride(), mass_stride(), 1});
    targets_ = std::make_unique<device_memory>(targets);
  }

  batch_shape shape_;
  int copies_, group_ = 0;
  rows_on_card<Codec> rows_;
  std::unique_ptr<engine_arrays> arrays_;
  std::unique_ptr<device_memory> batches_, workspace_, mass_, targets_;
};

template <class Codec>
recipe recipe_of(std::string name, double share) {
  return {std::move(name), share, rows_on_card<Codec>::bytes, [](batch_shape shape, int copies) {
            return std::unique_ptr<decoding>(std::make_unique<decoding_of<Codec>>(shape, copies));
          }};
}

}  // namespace bench
