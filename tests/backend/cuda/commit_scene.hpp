// SPDX-License-Identifier: Apache-2.0
// Random commits of a batch of sequences: what kernels get, and the same as the CPU's trim_head.
#pragma once
#include <algorithm>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include <tersekv/backend/cuda/commit.hpp>
#include <tersekv/detail/stated_needs.hpp>

#include "index.hpp"

namespace test {

namespace kv = tersekv;
using std::size_t;

inline std::vector<float> normal_numbers(size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw;
  std::vector<float> out(n);
  for (float& x : out) x = draw(engine);
  return out;
}

struct scene_options {
  int sequences = 2, slots = 2, kv_heads = 3, key_dim = 6, value_dim = 5, layers = 3;
  int most_committed = 40, tokens = 3, accepted = 2, observed = 2;
  int retained = 0;  // of every second slot
  bool due = true;
  bool special = false;      // ties, NaN and infinities in states and signals
  bool heads_agree = false;  // all heads of a slot hold the same rows
  bool biased = false;       // rows carry a bias
  bool ranges = false;
  bool some = true;  // committed rows: any number up to most_committed, or exactly so many
};

template <class Evict, class Merge>
class commit_scene {
 public:
  static constexpr int columns = Evict::columns + Merge::columns;

  commit_scene(const scene_options& o, unsigned seed) : o(o), random_(seed) {
    for (int l = 0; l < o.layers; ++l) slot_of_layer_.push_back(l % o.slots);
    for (int s = 0; s < o.slots; ++s) retained_.push_back(s % 2 == 0 ? o.retained : 0);
    const int heads = o.sequences * o.slots * o.kv_heads;
    arrays_.resize(at(heads)), heads_.resize(at(heads));
    sequences_.resize(at(o.sequences));
    for (int q = 0; q < o.sequences; ++q) add_sequence(q);
    shape = {o.sequences,
             o.slots,
             o.kv_heads,
             0,
             o.slots,
             o.key_dim,
             o.value_dim,
             o.layers,
             slot_of_layer_.data(),
             retained_.data(),
             o.most_committed + o.accepted + 3,
             o.accepted + 1,
             64};
  }
  commit_scene(const commit_scene&) = delete;

  /// One list as the CPU describes it, after observation. state has all columns; source is the row index.
  struct list {
    std::vector<int> source, position;
    std::vector<float> state, last, window;
  };

  const kv::detail::device_commit* batch() const { return commits_.data(); }
  const kv::detail::device_commit& commit(int q) const { return commits_[at(q)]; }
  const kv::detail::device_head& head(int i) const { return heads_[at(i)]; }
  int length(int q) const { return sequences_[at(q)].length; }

  list list_of(int q, int s, int h, const Evict& evict, const Merge& merge) const {
    const kv::detail::device_head& head = heads_[at((q * o.slots + s) * o.kv_heads + h)];
    list out;
    for (int i = 0; i < head.rows() + o.accepted; ++i) {
      const int j = i - head.rows();
      if (j < 0 && head.position[i] < 0) continue;
      std::vector<float> state(at(columns), 0.0f);
      if (j < 0) std::copy_n(head.state + i * columns, columns, state.begin());
      float mass = 0, last = 0;
      for (int l = 0; l < o.layers; ++l) {
        if (slot_of_layer_[at(l)] != s) continue;
        for (int r = 0; r < o.observed; ++r) mass += signal(q, l, h, r, i);
        if (o.observed > 0) last += signal(q, l, h, o.observed - 1, i);
      }
      const kv::observation seen{mass, std::max(0, j < 0 ? o.observed : o.observed - j)};
      const auto update = [&](const auto& policy, int first, int count) {
        const std::span<float> mine(state.data() + first, at(count));
        if (j >= 0) kv::detail::insert_row(policy, mine, staged_key(q, s, j, h));
        kv::detail::observe_row(policy, mine, seen);
      };
      update(evict, 0, Evict::columns);
      update(merge, Evict::columns, Merge::columns);
      out.source.push_back(i);
      out.position.push_back(j < 0 ? head.position[i] : length(q) + j);
      out.state.insert(out.state.end(), state.begin(), state.end());
      out.last.push_back(last);
      out.window.push_back(commits_[at(q)].window[(s * o.kv_heads + h) * stride() + i]);
    }
    return out;
  }
  std::span<const kv::position_range> ranges() const { return ranges_; }
  std::span<const float> staged_key(int q, int s, int j, int h) const {
    return {sequences_[at(q)].keys.data() + ((s * o.tokens + j) * o.kv_heads + h) * o.key_dim, at(o.key_dim)};
  }

  const scene_options o;
  kv::detail::commit_shape shape;

 private:
  struct sequence {
    int length = 0;
    std::vector<float> keys, mass, window;  // [slots, tokens, kv_heads, key_dim], [layers, kv_heads, tokens, stride]
  };
  struct head_arrays {
    std::vector<int> position;
    std::vector<float> state, bias;
  };

  int stride() const { return o.most_committed + o.tokens + 2; }
  float signal(int q, int l, int h, int r, int i) const {
    return sequences_[at(q)].mass[at(((l * o.kv_heads + h) * o.tokens + r) * stride() + i)];
  }
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  float number() {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    if (!o.special) return std::normal_distribution<float>()(random_);
    const float some[] = {0.0f, -0.0f, 1.0f, 1.0f, 2.0f, -1.0f, infinity, -infinity, std::nanf("")};
    return some[below(9)];
  }
  std::vector<float> numbers(int n) {
    std::vector<float> out(at(n));
    for (float& x : out) x = number();
    return out;
  }

  void add_sequence(int q) {
    sequence& me = sequences_[at(q)];
    me.length = 2 * o.most_committed + below(10);
    for (int s = 0; s < o.slots; ++s) {
      for (const float x : numbers(o.tokens * o.kv_heads * o.key_dim)) me.keys.push_back(x);
      std::vector<int> rows;
      for (int h = 0; h < o.kv_heads; ++h) {
        if (h == 0 || !o.heads_agree) rows = committed(me.length);
        add_head((q * o.slots + s) * o.kv_heads + h, rows);
      }
    }
    me.mass = numbers(o.layers * o.kv_heads * o.tokens * stride());
    me.window = numbers(o.slots * o.kv_heads * stride());
    if (o.ranges && ranges_.empty()) ranges_ = {{1, 4}, {me.length - 6, me.length - 2}, {me.length, me.length + 1}};
    const kv::detail::device_array keys{me.keys.data(), kv::detail::element::f32, o.kv_heads * o.key_dim, o.key_dim};
    commits_.push_back({heads_.data() + q * o.slots * o.kv_heads,
                        {keys, static_cast<std::int64_t>(me.keys.size() / at(o.slots) * sizeof(float))},
                        me.mass.data(),
                        me.window.data(),
                        ranges_.data(),
                        stride(),
                        me.length,
                        static_cast<int>(ranges_.size()),
                        o.tokens,
                        o.accepted,
                        o.observed,
                        o.tokens,
                        4,
                        o.due});
  }
  /// Ascending positions below `length`.
  std::vector<int> committed(int length) {
    std::vector<int> all(at(length));
    for (int i = 0; i < length; ++i) all[at(i)] = i;
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(at(o.some ? below(o.most_committed + 1) : o.most_committed));
    std::sort(all.begin(), all.end());
    return all;
  }
  void add_head(int i, const std::vector<int>& rows) {
    head_arrays& me = arrays_[at(i)];
    const int n = static_cast<int>(rows.size());
    kv::detail::device_head& head = heads_[at(i)];
    head = {};
    me.position = rows;
    head.sinks = below(n / 4 + 1);
    head.window = below(n / 3 + 1);
    head.packed = n - head.sinks - head.window;
    for (int r = head.sinks; r < head.sinks + head.packed; ++r)
      if (!o.heads_agree && below(5) == 0) me.position[at(r)] = -1, ++head.dead;
    me.state = numbers(n * columns);
    head.position = me.position.data(), head.state = me.state.data();
    if (!o.biased) return;
    me.bias = numbers(n);
    head.bias = me.bias.data();
  }

  std::mt19937 random_;
  std::vector<int> slot_of_layer_, retained_;
  std::vector<kv::position_range> ranges_;
  std::vector<head_arrays> arrays_;
  std::vector<kv::detail::device_head> heads_;
  std::vector<sequence> sequences_;
  std::vector<kv::detail::device_commit> commits_;
};

/// Memory whose first content is NaN.
class poisoned_memory {
 public:
  explicit poisoned_memory(size_t bytes) : words_((bytes + 15) / 16 * 4, 0xffffffffu) {}
  void* get() { return words_.data(); }

 private:
  std::vector<unsigned> words_;
};

}  // namespace test
