// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
#include "backend/cuda/attention.hpp"

#include "simt/schedules.hpp"

#include <tersekv/backend/cuda/prompt_mass.cuh>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/kivi.hpp>

namespace prompt_mass_test {

using namespace test;

/// Masses [kv_heads, signal_rows, stride] of every sequence, after attention; 1 is there before.
template <class Codec>
class masses {
 public:
  masses(attention_batch<Codec>& b, int observed, int signal_rows) : b_(b), rows_(signal_rows) {
    stride_ = b.most_rows() + b.most_tokens() + 3;
    mass_.assign(at(b.sequences() * b.shape.kv_heads * rows_ * stride_), 1.0f);
    kd::prompt_attention(b.page, b.shape, b.batch.data(), b.sequences(), b.most_tokens(), nullptr, nullptr);
    kd::prompt_mass(b.page, b.shape, b.batch.data(), b.sequences(), b.most_tokens(), b.most_rows() + b.most_tokens(),
                    nullptr, {}, observed, mass_.data(), rows_, stride_, nullptr);
  }
  /// error: of a weight.
  void check(int sequence, int head, int signal_row, const std::vector<double>& right, double error) const {
    CAPTURE(sequence, head, signal_row);
    const float* row = mass_.data() + ((sequence * b_.shape.kv_heads + head) * rows_ + signal_row) * stride_;
    double worst = 0;
    for (int i = 0; i < stride_; ++i)
      worst = std::max(worst, std::abs(static_cast<double>(row[i]) - 1 - (at(i) < right.size() ? right[at(i)] : 0)));
    CHECK(worst <= error);
  }

 private:
  attention_batch<Codec>& b_;
  int rows_, stride_;
  std::vector<float> mass_;
};

scene long_prompt() {
  scene s;
  s.key_dim = s.value_dim = 64, s.kv_heads = 2, s.group = 3;
  s.heads = {{3, 64, 5, 7}, {0, 32, 70, 0}, {0, 0, 0, 0}, {2, 32, 0, 2}};
  s.tokens = {35, 5};
  return s;
}

template <class Codec>
void check_sums(const scene& s, int observed, double error) {
  attention_batch<Codec> b(s);
  const masses<Codec> m(b, observed, 2);
  for (int i = 0; i < b.sequences(); ++i)
    for (int h = 0; h < b.shape.kv_heads; ++h) {
      const int last = std::min(observed, s.tokens[at(i)]) - 1;
      std::vector<double> sum(at(b.rows(i, h) + s.tokens[at(i)])), newest = b.expected_mass(i, last, h);
      for (int t = 0; t <= last; ++t) {
        const auto one = b.expected_mass(i, t, h);
        for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += one[k];
      }
      m.check(i, h, 0, sum, error * (last + 1));
      m.check(i, h, 1, newest, error);
    }
}

TEST_CASE("mass of a long prompt: the sum over observed tokens, and the last of them", "[cuda]") {
  scene s = long_prompt();
  int observed = 35;
  SECTION("all of them") {}
  SECTION("not the question") { observed = 31; }
  SECTION("sliding window") { s.window = 40; }
  SECTION("bias, strict causality") { s.biased = true, s.sees_self = false; }
  SECTION("256 channels") { s.key_dim = 256, s.value_dim = 32; }
  const simt::with settings(simt::schedules[2]);
  check_sums<kv::int4<>>(s, observed, 1e-3);
}

TEST_CASE("mass: whatever the order of threads", "[cuda]") {
  for (const auto& schedule : simt::schedules) {
    const simt::with settings(schedule);
    check_sums<kv::int4<>>(long_prompt(), 33, 1e-3);
  }
}

TEST_CASE("mass of transformed keys, and of formats without a kernel", "[cuda]") {
  check_sums<kv::through<kv::hadamard, kv::kivi<4>>>(long_prompt(), 33, 1e-3);
  scene s = long_prompt();
  s.tokens = {6, 5};
  check_sums<kv::dense<float>>(s, 5, 1e-5);
}

TEST_CASE("mass of a short step: one row per token", "[cuda]") {
  scene s = long_prompt();
  s.tokens = {10};
  const auto run = [&]<class Codec>(attention_batch<Codec> b, double error) {
    const masses<Codec> m(b, 8, 10);
    for (int i = 0; i < b.sequences(); ++i)
      for (int h = 0; h < 2; ++h)
        for (int t = 0; t < 10; ++t) m.check(i, h, t, t < 8 ? b.expected_mass(i, t, h) : std::vector<double>(), error);
  };
  run(attention_batch<kv::int4<>>(s), 1e-3);
  run(attention_batch<kv::dense<float>>(s), 1e-5);
}

TEST_CASE("mass of a window of queries, some of earlier chunks", "[cuda]") {
  scene s = long_prompt();
  s.tokens = {9};
  attention_batch<kv::int4<>> b(s);
  // Queries 0 .. 3 stand six positions further back than their tokens; 4 .. 8 are those of the step.
  const int moved = -6;
  std::vector<int> position;
  for (int t = 0; t < 9; ++t) position.push_back(b.length(0) + t + (t < 4 ? moved : 0));
  const kd::device_window window{position.data(), 9};
  b.batch[0].out.data = nullptr;
  kd::prompt_attention(b.page, b.shape, b.batch.data(), 1, 9, &window, nullptr);
  const int stride = b.most_rows() + 9;
  std::vector<float> mass(at(2 * stride));
  kd::prompt_mass(b.page, b.shape, b.batch.data(), 1, 9, stride, &window, {}, 9, mass.data(), 1, stride, nullptr);
  for (int h = 0; h < 2; ++h) {
    std::vector<double> sum(at(b.rows(0, h) + 9));
    for (int t = 0; t < 9; ++t) {
      const auto one = b.expected_mass(0, t, h, t < 4 ? moved : 0);
      for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += one[k];
    }
    double worst = 0;
    for (std::size_t k = 0; k < sum.size(); ++k)
      worst = std::max(worst, std::abs(static_cast<double>(mass[at(h * stride) + k]) - sum[k]));
    CHECK(worst <= 1e-2);
  }
}

}  // namespace prompt_mass_test
