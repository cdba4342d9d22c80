// SPDX-License-Identifier: Apache-2.0
// Packed rows of a batch on the card, as many times as it takes to find none of them in L2 when it is their turn again.
#pragma once
#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <tersekv/backend/cuda/rows.hpp>
#include <tersekv/page_format.hpp>
#include <tersekv/read/read_all.hpp>

#include "graph.hpp"

namespace bench {

namespace kv = tersekv;
namespace kd = tersekv::detail;

inline constexpr int dim = 128;

/// A batch in which every KV head has `rows` packed rows.
struct batch_shape {
  int sequences = 1, rows = 0, kv_heads = 8;
  std::size_t heads() const { return static_cast<std::size_t>(sequences) * static_cast<std::size_t>(kv_heads); }
};

inline std::string text(batch_shape shape) {
  return std::to_string(shape.sequences) + " x " + std::to_string(shape.rows) + " rows, " +
         std::to_string(shape.kv_heads) + " KV heads";
}

inline std::vector<float> normal(std::size_t n, unsigned seed, float deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw(0, deviation);
  std::vector<float> out(n);
  for (float& x : out) x = draw(engine);
  return out;
}
inline std::vector<kv::half> normal_halves(std::size_t n, unsigned seed, float deviation = 1) {
  std::vector<kv::half> out(n);
  kv::narrow(normal(n, seed, deviation).data(), static_cast<int>(n), out.data());
  return out;
}

template <class Codec>
class rows_on_card {
 public:
  using page_type = kv::page_format<Codec, kv::read_all>;

  rows_on_card(batch_shape shape, int copies)
      : page(Codec{}, kv::read_all{}, dim, dim), shape_(shape), copies_(copies),
        pages_(pages_of_head(shape) * shape.heads() * static_cast<std::size_t>(copies)), memory_(pages_ * page_bytes()),
        tables_(pages_ * sizeof(std::byte*)), positions_(static_cast<std::size_t>(shape.rows) * sizeof(int)),
        heads_(shape.heads() * static_cast<std::size_t>(copies) * sizeof(kd::device_head)) {
    fill_pages();
    fill_tables();
  }

  /// Of one copy: what a step must read.
  static std::size_t bytes(batch_shape shape) {
    return shape.heads() * pages_of_head(shape) * payload(page_type(Codec{}, kv::read_all{}, dim, dim));
  }
  /// [sequences, kv_heads]
  const kd::device_head* heads(int copy) const {
    return heads_.template as<kd::device_head>() + static_cast<std::size_t>(copy) * shape_.heads();
  }

  const page_type page;

 private:
  static std::size_t pages_of_head(batch_shape shape) {
    return static_cast<std::size_t>((shape.rows + page_type::rows - 1) / page_type::rows);
  }
  static std::size_t payload(const page_type& page) { return page.bytes() - kv::page_ref::overhead; }
  std::size_t page_bytes() const { return page.bytes(); }  // a payload behind its header, as in a pool

  /// Some pages as the CPU packs them, again and again.
  void fill_pages() {
    const std::size_t some = std::min<std::size_t>(pages_, 64), rows = page_type::rows;
    std::vector<std::byte> host(some * page_bytes());
    const auto k = normal(some * rows * dim, 1), v = normal(some * rows * dim, 2);
    for (std::size_t p = 0; p < some; ++p)
      page.encode(host.data() + p * page_bytes() + kv::page_ref::overhead, 0, page_type::rows,
                  k.data() + p * rows * dim, v.data() + p * rows * dim);
    auto* to = memory_.template as<std::byte>();
    copy_bytes(to, host.data(), host.size());
    const std::size_t all = pages_ * page_bytes();
    for (std::size_t done = host.size(); done < all; done *= 2) copy_bytes(to + done, to, std::min(done, all - done));
  }
  /// Pages of a head stand anywhere, as in a pool.
  void fill_tables() {
    std::vector<std::byte*> table(pages_);
    for (std::size_t p = 0; p < pages_; ++p)
      table[p] = memory_.template as<std::byte>() + p * page_bytes() + kv::page_ref::overhead;
    std::shuffle(table.begin(), table.end(), std::mt19937(3));
    copy_bytes(tables_.template as<char>(), table.data(), pages_ * sizeof table[0]);
    std::vector<int> position(static_cast<std::size_t>(shape_.rows));
    std::iota(position.begin(), position.end(), 0);
    copy_bytes(positions_.template as<char>(), position.data(), position.size() * sizeof position[0]);
    std::vector<kd::device_head> heads(shape_.heads() * static_cast<std::size_t>(copies_));
    for (std::size_t h = 0; h < heads.size(); ++h) {
      heads[h] = {};
      heads[h].page = tables_.template as<std::byte*>() + h * pages_of_head(shape_);
      heads[h].position = positions_.template as<int>();
      heads[h].packed = shape_.rows;
    }
    copy_bytes(heads_.template as<char>(), heads.data(), heads.size() * sizeof heads[0]);
  }

  batch_shape shape_;
  int copies_;
  std::size_t pages_;
  device_memory memory_, tables_, positions_, heads_;
};

/// What an engine brings to a step of `tokens`, in halves, and takes from it.
class engine_arrays {
 public:
  engine_arrays(batch_shape shape, int group, int tokens)
      : shape_(shape), group_(group), tokens_(tokens), queries_(normal_halves(count(group), 4)),
        keys_(normal_halves(count(1), 5)), values_(normal_halves(count(1), 6)), out_(count(group) * sizeof(kv::half)),
        length_(std::vector<int>{shape.rows}) {}

  /// One query per sequence, over heads [sequences, kv_heads].
  std::vector<kd::device_query> batch(const kd::device_head* heads) const {
    std::vector<kd::device_query> out;
    for (int s = 0; s < shape_.sequences; ++s) {
      const auto array = [&](const device_memory& all, int group) {
        const int per_token = shape_.kv_heads * group * dim;
        return kd::device_array{all.as<kv::half>() + std::ptrdiff_t{s} * tokens_ * per_token, kd::element::f16,
                                per_token, dim};
      };
      out.push_back({heads + std::ptrdiff_t{s} * shape_.kv_heads, array(queries_, group_), array(out_, group_), nullptr,
                     array(keys_, 1), array(values_, 1), length_.as<int>(), tokens_});
    }
    return out;
  }
  /// Of the first sequences.
  std::vector<float> out(int sequences) const {
    const std::size_t n =
        count(group_) / static_cast<std::size_t>(shape_.sequences) * static_cast<std::size_t>(sequences);
    const auto halves = out_.host<kv::half>(n);
    std::vector<float> x(n);
    kv::widen(halves.data(), static_cast<int>(n), x.data());
    return x;
  }

 private:
  std::size_t count(int group) const {
    return shape_.heads() * static_cast<std::size_t>(group) * static_cast<std::size_t>(tokens_) * dim;
  }
  batch_shape shape_;
  int group_, tokens_;
  device_memory queries_, keys_, values_, out_, length_;
};

inline kd::attend_shape logits(batch_shape shape, int group) {
  return {shape.kv_heads, group, 0.08838834764831845f, 0, true};
}

/// Relative RMS.
inline double difference(const std::vector<float>& x, const std::vector<float>& right) {
  double sum = 0, norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double r = static_cast<double>(right[i]), d = static_cast<double>(x[i]) - r;
    sum += d * d, norm += r * r;
  }
  return std::sqrt(sum / norm);
}

}  // namespace bench
