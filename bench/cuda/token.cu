// SPDX-License-Identifier: Apache-2.0
// What does a decoded token cost through the container, on the host and on the card, against the time that its pages
// need? The layers are those of Llama 3 8B; the model itself is not there.
#include <deque>

#include <tersekv/backend/cuda.cuh>
#include <tersekv/codec/int4.hpp>
#include <tersekv/evict/h2o.hpp>

#include "rows.cuh"
#include "session.hpp"

namespace bench {
namespace {

const kv::model_shape model{.layers = 32, .query_heads = 32, .kv_heads = 8, .head_dim = dim};

/// Conversations of `rows` tokens each that go on together.
template <class... Policies>
class chats {
  using cache_type = decltype(kv::make_cache(model, kv::cuda{}, Policies{}...));
  using step_type = typename cache_type::step_type;

 public:
  chats(int sequences, int rows, bool check_numbers, const Policies&... policies)
      : cache_(kv::make_cache(model, kv::cuda{.stream = stream(), .check_numbers = check_numbers}, policies...)),
        queries_(halves(sequences, model.query_heads, 1)), keys_(halves(std::max(sequences, chunk), model.kv_heads, 2)),
        values_(halves(std::max(sequences, chunk), model.kv_heads, 3)), out_(halves(sequences, model.query_heads, 4)) {
    for (int i = 0; i < sequences; ++i) {
      q_.push_back(row(queries_, i, model.query_heads));
      k_.push_back(row(keys_, i, model.kv_heads)), v_.push_back(row(values_, i, model.kv_heads));
      o_.push_back(row(out_, i, model.query_heads));
      open_.push_back(cache_.open());
      for (int fed = 0; fed < rows; fed += chunk) feed(open_.back(), fed + chunk < rows);
    }
  }
  /// What all pages of that many tokens take.
  static std::size_t bytes(int sequences, int rows) {
    const typename cache_type::core_type::page page(typename cache_type::core_type::codec_type{}, kv::read_all{}, dim,
                                                    dim);
    return static_cast<std::size_t>(sequences) * model.layers * model.kv_heads *
           static_cast<std::size_t>(rows / cache_type::page_rows + 1) * page.bytes();
  }
  std::size_t page_bytes() const { return cache_.report().page_bytes; }

  /// One token of every conversation, whose steps are open at the same time.
  class token {
   public:
    explicit token(chats& all) : all_(all) {
      for (auto& sequence : all.open_) steps_.push_back(&open_.emplace_back(sequence, 1, kv::step_options{}));
    }
    void append(int layer) { kv::append(steps_, layer, all_.k_, all_.v_); }
    void attend(int layer) { kv::attend(steps_, layer, all_.q_, all_.o_); }
    void layers() {
      for (int l = 0; l < model.layers; ++l) append(l), attend(l);
    }
    void commit() { kv::commit(steps_); }

   private:
    chats& all_;
    std::deque<step_type> open_;
    std::vector<step_type*> steps_;
  };

 private:
  static constexpr int chunk = 1024;  // tokens of a prompt that arrive together

  static device_memory halves(int rows, int heads, unsigned seed) {
    return device_memory(normal_halves(static_cast<std::size_t>(rows * heads * dim), seed));
  }
  static kv::view row(const device_memory& all, int i, int heads) {
    return {all.as<kv::half>() + std::ptrdiff_t{i} * heads * dim, 1, heads, dim};
  }
  /// Without queries: h2o then goes by age, which costs a decoded token the same.
  void feed(typename cache_type::sequence_type& sequence, bool more) {
    auto step = sequence.step(chunk, {.more = more});
    for (int l = 0; l < model.layers; ++l)
      step.append(l, kv::view(keys_.as<kv::half>(), chunk, model.kv_heads, dim),
                  kv::view(values_.as<kv::half>(), chunk, model.kv_heads, dim));
    step.commit();
  }

  cache_type cache_;
  device_memory queries_, keys_, values_, out_;
  std::vector<kv::view> q_, k_, v_, o_;  // [sequences]
  std::deque<typename cache_type::sequence_type> open_;
};

double host_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class... Policies>
void ask(session& s, const std::string& name, int sequences, int rows, bool check_numbers,
         const Policies&... policies) {
  using chats_type = chats<Policies...>;
  using token = typename chats_type::token;
  const std::string part = text({sequences, rows, model.kv_heads}) + ", " + std::to_string(model.group()) +
                           " query heads each, " + std::to_string(model.layers) + " layers";
  if (!fits(s, chats_type::bytes(sequences, rows), name, part)) return;
  chats_type all(sequences, rows, check_numbers, policies...);

  std::vector<double> whole, host, of_commits, commits;
  for (int round = -3; round < s.rounds(); ++round) {
    const double begin = host_us();
    token now(all);
    now.layers();
    const double before_commit = host_us();
    now.commit();
    const double end = host_us();
    TERSEKV_CUDA(cudaStreamSynchronize(stream()));
    if (round < 0) continue;
    whole.push_back(host_us() - begin), host.push_back(end - begin), of_commits.push_back(end - before_commit);
  }
  const stopwatch time;
  for (int round = 0; round < s.rounds() && !check_numbers; ++round) {
    token now(all);
    now.layers();
    keep_busy(2 * quantile(of_commits, 0.5));
    time.start();
    now.commit();
    commits.push_back(time.stop());
  }
  std::vector<std::unique_ptr<graph>> graphs;
  {
    token now(all);  // never committed, so every replay meets the same rows
    graphs.push_back(std::make_unique<graph>(1, [&](int) { now.layers(); }));
    graphs.push_back(std::make_unique<graph>(1, [&](int) {
      for (int l = 0; l < model.layers; ++l) now.attend(l);
    }));
  }
  const auto of_graphs = in_turn(graphs, s.rounds());
  const double layers = of_graphs[0].us, attend = of_graphs[1].us,
               commit = check_numbers ? NAN : quantile(commits, 0.5);
  s.records.push_back({part,
                       name + (check_numbers ? ", check_numbers" : ""),
                       summary(whole),
                       {{"host, us", quantile(host, 0.5)},
                        {"layers, us", layers},
                        {"attend, us", attend},
                        {"commit, us", commit},
                        {"append and commit, % of attend", 100 * (layers - attend + commit) / attend},
                        {"floor, us", 1e-3 * static_cast<double>(all.page_bytes()) / s.card.copy}}});
}

}  // namespace

void token(session& s) {
  s.notes = {
      "Time: a decoded token of all sequences, from the first append until the card is done with the commit. Host: "
      "until the last verb returned. Where that is more than layers and commit, the card waits for the host",
      "Layers: append and attend, all of them as one graph; attend: alone. Commit: enqueued while the card is "
      "busy, not with check_numbers, where it waits. Floor: all pages at the copy rate"};
  struct question {
    int sequences, rows;
  };
  for (const auto [sequences, rows] : {question{1, 8192}, question{32, 4096}, question{64, 4096}}) {
    for (const bool check : {false, true}) {
      ask(s, "dense f16", sequences, rows, check, kv::dense<kv::half>{});
      ask(s, "int4<>", sequences, rows, check, kv::int4<>{});
      ask(s, "h2o of 2048 rows, int4<>", sequences, rows, check, kv::h2o{.heavy = 1024, .recent = 1024}, kv::int4<>{});
    }
    s.save();
  }
}

}  // namespace bench
