// SPDX-License-Identifier: Apache-2.0
// What does a prompt cost? Attention of many tokens at once, beside products of Eigen over keys and values that already
// lie there as floats; and what SnapKV's scores add.
#include <Eigen/Core>
#include <cmath>
#include <limits>

#include "prompt.hpp"

namespace bench {
namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Causal attention of n tokens after `past` rows; keys and values per head as floats, 16 tokens at a time: scores,
/// softmax, outputs, each for all rows at once.
class eigen_reference {
 public:
  eigen_reference(head_shape shape, int past, int n) : shape_(shape), past_(past), n_(n) {
    for (int h = 0; h < shape.kv_heads; ++h) {
      k_.push_back(random(past + n)), v_.push_back(random(past + n));
      q_.push_back(2 * random(n * shape.group)), out_.emplace_back(n * shape.group, dim);
    }
  }
  void run(team& threads) {
    const int blocks = (n_ + tokens - 1) / tokens;
    threads.run(shape_.kv_heads * blocks, [&](int i) { block(i / blocks, i % blocks * tokens); });
  }

 private:
  static constexpr int tokens = 16;
  static matrix random(int rows) {
    const std::vector<float> x = normal(static_cast<std::size_t>(rows * dim), static_cast<unsigned>(rows));
    return Eigen::Map<const matrix>(x.data(), rows, dim);
  }
  void block(int h, int first) {
    const auto u = static_cast<std::size_t>(h);
    const int last = std::min(n_, first + tokens), group = shape_.group, rows = past_ + last;
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    matrix p = (q_[u].middleRows(first * group, (last - first) * group) * scale) * k_[u].topRows(rows).transpose();
    for (int t = first; t < last; ++t)
      p.block((t - first) * group, past_ + t + 1, group, last - t - 1)
          .setConstant(-std::numeric_limits<float>::infinity());
    const Eigen::VectorXf top = p.rowwise().maxCoeff();
    p = (p.colwise() - top).array().exp().matrix();
    const Eigen::VectorXf sum = p.rowwise().sum();
    out_[u].middleRows(first * group, (last - first) * group).noalias() =
        sum.cwiseInverse().asDiagonal() * (p * v_[u].topRows(rows));
  }

  head_shape shape_;
  int past_, n_;
  std::vector<matrix> k_, v_, q_, out_;
};

const char* const recipes_of_prompts[] = {"dense f16", "int8<>", "int4<>", "kivi<2>"};

double prompt_operations(head_shape shape, int past, int n) {
  return 4.0 * shape.query_heads() * dim * n * (past + 0.5 * (n + 1));
}

void attention(session& s, const block_of_rows& block, int past, int n, int threads) {
  s.threads().use(threads);
  const head_shape shape = block.shape;
  eigen_reference reference(shape, past, n);
  std::vector<std::unique_ptr<prompting>> caches;
  std::vector<candidate> all = {{.name = "products of Eigen", .run = [&] { reference.run(s.threads()); }}};
  for (const recipe& r : all_of_them().codecs) {
    const bool listed = std::any_of(std::begin(recipes_of_prompts), std::end(recipes_of_prompts),
                                    [&](const char* name) { return r.name == name; });
    if (!listed || !s.wanted().wants(r.name) || (past == 0 && r.integer)) continue;  // no packed rows, no codec
    caches.push_back(std::make_unique<prompting>(r.make(shape.model(), s.backend()), block, past, n));
    all.push_back({.name = r.name, .run = [p = caches.back().get()] { p->attend(); }});
  }
  const auto times = interleaved(all, s.seconds(3), 3);
  for (std::size_t i = 0; i < all.size(); ++i) {
    record r = s.timed(all[i].name, std::to_string(n) + " tokens after " + std::to_string(past), shape, past + n,
                       threads, times[i]);
    if (i > 0) {
      r.vs_reference = times[0].us / times[i].us;
      r.vs_dense_f16 = times[1].us / times[i].us;
      r.bytes = caches[i - 1]->cache.report().bytes;
    }
    r.also["gflops"] = 1e-3 * prompt_operations(shape, past, n) / times[i].us;
    s.add(r);
  }
}

/// The end of a prompt that scores, against one that does not: 64 tokens are attended, in memory that was
/// used before, and committed. Both keep and pack the same rows but for 64.
void snapkv_scores(session& s, const block_of_rows& block, int rows, int threads) {
  s.threads().use(threads);
  const head_shape shape = block.shape;
  constexpr int n = 64;
  std::unique_ptr<prompting> plain, scored;
  const auto renew = [&](std::unique_ptr<prompting>& p, bool scores) {
    p.reset();
    p = std::make_unique<prompting>(
        make(scores ? "snapkv=" + std::to_string(rows - n) + "+32+5,int4=32" : "int4=32", shape.model(), s.backend()),
        block, rows - n, n);
    p->attend();
  };
  const auto end = [](prompting& p) { p.attend(), p.step->commit(); };
  const auto times =
      interleaved({{.name = "plain", .run = [&] { end(*plain); }, .before = [&] { renew(plain, false); }},
                   {.name = "scored", .run = [&] { end(*scored); }, .before = [&] { renew(scored, true); }}},
                  0.01, s.wanted().quick ? 2 : 5);
  record r = s.timed("snapkv", "window scores and selection at the end of a prompt", shape, rows, threads, times[1]);
  for (double* us : {&r.time.us, &r.time.low, &r.time.high}) *us -= times[0].us;
  r.also["of_prompt"] = r.time.us / attention_of_prompt(s, block, rows);
  s.add(r);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return run("prompt", argc, argv, [](session& s) {
    const block_of_rows block(llama3_8b, 2048), one_head({1, 8, dim}, 2048);
    const int n = s.wanted().quick ? 512 : 2048;
    for (const int threads : s.thread_counts()) {
      attention(s, block, 0, n, threads);
      attention(s, block, 2 * n, n / 4, threads);
      attention(s, one_head, 0, n, threads);
      if (s.wanted().wants("snapkv"))
        for (const int rows : s.rows_or(s.wanted().quick ? std::vector{1024} : std::vector{512, 1024, 4096, 16384}))
          snapkv_scores(s, block, rows, threads);
    }
  });
}
