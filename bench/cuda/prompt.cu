// SPDX-License-Identifier: Apache-2.0
// What does a prompt's attention cost on the card, against the time that its products need on tensor cores?
#include <tersekv/backend/cuda/prompt.cuh>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/int4.hpp>

#include "rows.cuh"
#include "session.hpp"

namespace bench {
namespace {

constexpr int group = 4;

/// `tokens` after `rows` packed ones.
template <class Codec>
void ask(session& s, const std::string& name, batch_shape shape, int tokens) {
  const rows_on_card<Codec> rows(shape, 1);
  const engine_arrays arrays(shape, group, tokens);
  const device_memory batch(arrays.batch(rows.heads(0)));
  const double pairs = static_cast<double>(tokens) * (shape.rows + 0.5 * (tokens + 1));
  const double operations = 4.0 * dim * group * static_cast<double>(shape.heads()) * pairs;
  const double bound = 1e-6 * operations / s.card.tensor;
  std::vector<std::unique_ptr<graph>> graphs;
  graphs.push_back(std::make_unique<graph>(enough_steps(bound), [&](int) {
    kd::prompt_attention(rows.page, logits(shape, group), batch.as<kd::device_query>(), shape.sequences, tokens,
                         nullptr, stream());
  }));
  const timing t = in_turn(graphs, s.rounds())[0];
  s.records.push_back({std::to_string(tokens) + " tokens after " + std::to_string(shape.rows) + " rows, " +
                           std::to_string(shape.kv_heads) + " KV heads, " + std::to_string(group) + " query heads each",
                       name,
                       t,
                       {{"TFLOP/s", 1e-6 * operations / t.us}, {"bound, us", bound}, {"of bound", bound / t.us}}});
}

}  // namespace

void prompt(session& s) {
  for (const int tokens : {512, 2048, 8192}) ask<kv::dense<kv::half>>(s, "first tokens", {1, 0}, tokens);
  for (const int rows : {8192, 32768}) {
    ask<kv::dense<kv::half>>(s, "dense f16", {1, rows}, 2048);
    ask<kv::int4<>>(s, "int4<>", {1, rows}, 2048);
    s.save();
  }
}

}  // namespace bench
