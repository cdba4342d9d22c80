// SPDX-License-Identifier: Apache-2.0
// What does a decoded token cost, by codec? One token's attention over a cache that does not change, through the public
// interface; beside dense f16, a plain reference, ggml where it is installed, and what the memory could do.
#include <cmath>
#include <memory>

#include "axes.hpp"
#include "data.hpp"
#include "peer_ggml.hpp"
#include "record.hpp"

namespace bench {
namespace {

/// Float64 attention of one query over rows of head h, and perhaps the step's own row.
std::vector<double> exact(const float* q, const rows_of_head& rows, const float* own_key, const float* own_value) {
  const int n = static_cast<int>(rows.keys.size()) / dim;
  std::vector<double> out(dim), logits;
  double top = -INFINITY, sum = 0;
  const auto row = [&](const std::vector<float>& x, int r, const float* own) {
    return r < n ? x.data() + static_cast<std::ptrdiff_t>(r) * dim : own;
  };
  const int all = own_key ? n + 1 : n;
  for (int r = 0; r < all; ++r) {
    const float* k = row(rows.keys, r, own_key);
    double x = 0;
    for (int c = 0; c < dim; ++c) x += static_cast<double>(q[c]) * static_cast<double>(k[c]);
    logits.push_back(x / std::sqrt(static_cast<double>(dim)));
    top = std::max(top, logits.back());
  }
  for (int r = 0; r < all; ++r) {
    const double p = std::exp(logits[static_cast<std::size_t>(r)] - top);
    const float* v = row(rows.values, r, own_value);
    sum += p;
    for (int c = 0; c < dim; ++c) out[static_cast<std::size_t>(c)] += p * static_cast<double>(v[c]);
  }
  for (double& x : out) x /= sum;
  return out;
}

rows_of_head rows_of(const block_of_rows& block, int h) {
  rows_of_head out;
  for (int r = 0; r < block.rows; ++r) {
    out.keys.insert(out.keys.end(), block.key(r, h), block.key(r, h) + dim);
    out.values.insert(out.values.end(), block.value(r, h), block.value(r, h) + dim);
  }
  return out;
}

/// Relative RMS of outputs against float64 attention over rows(h); heads 0 and 1 speak for all.
double error_of(const float* out, const block_of_rows& block, bool own, const std::function<rows_of_head(int)>& rows) {
  double difference = 0, norm = 0;
  for (int h = 0; h < std::min(2, block.shape.kv_heads); ++h) {
    const rows_of_head x = rows(h);
    for (int g = 0; g < block.shape.group; ++g) {
      const int at = (h * block.shape.group + g) * dim;
      const auto want = exact(block.q.data() + at, x, own ? block.key(block.rows, h) : nullptr,
                              own ? block.value(block.rows, h) : nullptr);
      for (int c = 0; c < dim; ++c) {
        const double w = want[static_cast<std::size_t>(c)], d = static_cast<double>(out[at + c]) - w;
        difference += d * d, norm += w * w;
      }
    }
  }
  return std::sqrt(difference / norm);
}

#if defined(TERSEKV_BENCH_GGML)
peer_rows rows_for_peer(const block_of_rows& b, int rows) {
  return {b.shape.kv_heads, b.shape.group, b.shape.head_dim, b.rows, rows, b.k.data(), b.v.data(), b.q.data()};
}
#endif

struct errors {
  double total = 0, kernel = 0;
};

class attend_question {
 public:
  explicit attend_question(session& s) : session_(s) {
    for (const recipe& r : all_of_them().codecs)
      if (s.wanted().wants(r.name)) recipes_.push_back(r);
  }

  void run(head_shape shape, int rows) {
    const block_of_rows block(shape, 4096);
    if (!errors_known_) find_errors(shape);
    std::vector<const recipe*> held = choose(shape, rows);
    if (held.empty()) return;
    session_.say(std::to_string(shape.kv_heads) + " KV heads, " + std::to_string(rows) + " rows: filling " +
                 std::to_string(held.size()) + " caches");
    session_.threads().use(1);
    std::vector<std::unique_ptr<decoding>> caches(held.size());
    in_pairs(held.size(), [&](std::size_t i) {
      caches[i] = std::make_unique<decoding>(held[i]->make(shape.model(), session_.backend()), block, rows);
    });
    std::vector<std::pair<std::string, std::unique_ptr<peer_cache>>> peers;
#if defined(TERSEKV_BENCH_GGML)
    if (static_cast<long>(rows) * shape.kv_heads <= 65536L * 8)
      for (const char* type : peer_types)
        peers.emplace_back(type, make_peer(type, rows_for_peer(block, rows), session_.memory()));
#endif
    for (const int threads : session_.thread_counts()) {
      session_.threads().use(threads);
      std::vector<candidate> all = {
          {.name = "read", .run = [&] { session_.stream().read(session_.threads()); }, .always = true}};
      for (std::size_t i = 0; i < held.size(); ++i)
        all.push_back({.name = held[i]->name, .run = [&caches, i] { caches[i]->attend(); }});
      for (auto& [name, peer] : peers) {
        peer->use(threads);
        all.push_back({.name = name, .run = [p = peer.get()] { p->attend(); }});
      }
      const auto times = interleaved(all, session_.seconds(3));
      report(shape, rows, threads, held, caches, peers, times);
    }
  }

  /// Time of the plain reference per row and query head, ns; fits in caches, which is to its advantage.
  void find_references(head_shape shape) {
    session_.threads().use(1);
    const rows_of_head some{normal(512 * dim, 11), normal(512 * dim, 12)};
    std::vector<candidate> all;
    for (const recipe& r : recipes_) all.push_back({.name = r.name, .run = r.reference(some, dim, shape.group)});
    const auto times = interleaved(all, session_.seconds(1));
    for (std::size_t i = 0; i < all.size(); ++i)
      reference_ns_[{shape.group, all[i].name}] = 1e3 * times[i].us / (512.0 * shape.group);
  }

 private:
  std::vector<const recipe*> choose(head_shape shape, int rows) {
    std::vector<const recipe*> out;
    const double numbers = 2.0 * dim * shape.kv_heads * rows;
    std::size_t sum = 0;
    const bool large = static_cast<long>(rows) * shape.kv_heads > 65536L * 8;
    for (const recipe& r : recipes_) {
      if (large &&
          std::find(std::begin(recipes_of_large), std::end(recipes_of_large), r.name) == std::end(recipes_of_large) &&
          session_.wanted().only.empty())
        continue;
      const auto bytes = static_cast<std::size_t>(numbers / 8 * bits_[r.name]);
      if (bytes > largest_cache || sum + bytes > session_.on().memory / 2) {
        session_.note("`" + r.name + "` was left out at " + std::to_string(shape.kv_heads) + " KV heads, " +
                      std::to_string(rows) + " rows: " + std::to_string(bytes >> 20) + " MiB");
        continue;
      }
      sum += bytes;
      out.push_back(&r);
    }
    if (large)
      session_.note(std::to_string(shape.kv_heads) + " KV heads, " + std::to_string(rows) +
                    " rows: some recipes only, and no ggml, for time and memory");
    return out;
  }

  void find_errors(head_shape shape) {
    const block_of_rows block(shape, 4096);
    session_.threads().use(1);
    std::vector<errors> found(recipes_.size());
    std::vector<double> bits(recipes_.size());
    in_pairs(recipes_.size(), [&](std::size_t i) {
      decoding one(recipes_[i].make(shape.model(), kv::cpu{}), block, block.rows);
      one.attend();
      found[i].total = error_of(one.out.data(), block, true, [&](int h) { return rows_of(block, h); });
      found[i].kernel = error_of(one.out.data(), block, true, [&](int h) {
        rows_of_head x = rows_of(block, h);
        recipes_[i].read_back(x, dim);
        return x;
      });
      bits[i] = one.cache.report().bits_per_number;
    });
    for (std::size_t i = 0; i < recipes_.size(); ++i)
      errors_[recipes_[i].name] = found[i], bits_[recipes_[i].name] = bits[i];
#if defined(TERSEKV_BENCH_GGML)
    for (const char* type : peer_types) {
      const auto one = make_peer(type, rows_for_peer(block, block.rows), session_.memory());
      one->use(1);
      one->attend();
      errors_["ggml " + std::string(type)].total =
          error_of(one->out(), block, false, [&](int h) { return rows_of(block, h); });
    }
#endif
    errors_known_ = true;
  }

  void report(head_shape shape, int rows, int threads, const std::vector<const recipe*>& held,
              const std::vector<std::unique_ptr<decoding>>& caches,
              const std::vector<std::pair<std::string, std::unique_ptr<peer_cache>>>& peers,
              const std::vector<timing>& times) {
    const double bandwidth = 1e-3 * session_.stream().bytes() / times[0].us;  // GB/s, in these very rounds
    std::map<std::string, double> us;
    for (std::size_t i = 0; i < peers.size(); ++i) us[peers[i].first] = times[1 + held.size() + i].us;
    const auto u = static_cast<std::size_t>(threads);
    const auto add = [&](const std::string& name, std::size_t bytes, const timing& t, const recipe* ours) {
      record r = session_.timed(name, "", shape, rows, threads, t);
      r.bytes = bytes;
      r.gb_per_s = 1e-3 * static_cast<double>(bytes) / t.us;
      r.of_bandwidth = *r.gb_per_s / bandwidth;
      const double peak = (ours && ours->integer ? session_.on().integer_peak : session_.on().float_peak)[u];
      if (ours) r.of_peak = 1e-3 * operations(r) / t.us / peak;
      r.also["ns_per_row_head"] = 1e3 * t.us / (static_cast<double>(rows) * shape.query_heads());
      r.also["bandwidth"] = bandwidth, r.also["peak"] = peak;
      if (held.front()->name == "dense f16") r.vs_dense_f16 = times[1].us / t.us;
      if (const auto e = errors_.find(name); e != errors_.end()) {
        r.error = e->second.total;
        if (ours) r.kernel_error = e->second.kernel;
      }
      if (ours) {
        // One thread's time, divided among the threads: the reference has none to lose.
        r.vs_reference = reference_ns_[{shape.group, name}] / threads / r.also["ns_per_row_head"];
        if (const auto p = us.find(ours->peer); p != us.end()) r.vs_ggml = p->second / t.us;
      }
      session_.add(r);
    };
    record read = session_.timed("reading memory", "", shape, rows, threads, times[0]);
    read.bytes = static_cast<std::size_t>(session_.stream().bytes());
    read.gb_per_s = bandwidth, read.of_bandwidth = 1;
    session_.add(read);
    for (std::size_t i = 0; i < held.size(); ++i) add(held[i]->name, caches[i]->bytes(), times[1 + i], held[i]);
    for (std::size_t i = 0; i < peers.size(); ++i)
      add("ggml " + peers[i].first, peers[i].second->bytes(), times[1 + held.size() + i], nullptr);
  }

  session& session_;
  std::vector<recipe> recipes_;
  std::map<std::string, errors> errors_;
  std::map<std::string, double> bits_;
  std::map<std::pair<int, std::string>, double> reference_ns_;
  bool errors_known_ = false;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  return run("attend", argc, argv, [](session& s) {
    if (!has_ggml) s.note("ggml is not installed here: nothing is compared with it");
    attend_question question(s);
    for (const head_shape shape : {llama3_8b, llama2_7b}) {
      question.find_references(shape);
      for (const int rows : s.rows_or(s.wanted().quick ? quick_rows : all_rows)) question.run(shape, rows);
    }
  });
}
