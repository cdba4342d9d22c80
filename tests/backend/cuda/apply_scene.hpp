// SPDX-License-Identifier: Apache-2.0
// One head on the CPU and the same head on a device, which go through the same commits.
#pragma once
#include "catch.hpp"

#include <algorithm>
#include <cstring>
#include <memory_resource>
#include <random>
#include <vector>

#include <tersekv/backend/cuda/apply.cuh>
#include <tersekv/backend/cuda/list_numbers.cuh>
#include <tersekv/head_rows.hpp>

#include "backend/cuda/same_head.hpp"
#include "index.hpp"

namespace test {

namespace kv = tersekv;
namespace kd = tersekv::detail;

/// Device pages for all heads of a test; the host's memory is the device's.
class device_pages {
 public:
  device_pages(std::size_t page_bytes, int count)
      : memory_(at(count) * page_bytes + 64), free_(at(count)), freed_(at(count)),
        count_(count), pool_{free_.data(), &free_count_, freed_.data(), &freed_count_, page_bytes}, free_count_(count) {
    auto* first = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(memory_.data()) + 63) / 64 * 64);
    for (int i = 0; i < count; ++i) free_[at(i)] = first + at(i) * page_bytes;
  }
  const kd::device_pool& pool() const { return pool_; }
  int held() const { return count_ - free_count_ - freed_count_; }
  void recycle() { kd::recycle_pages(pool_, nullptr); }

 private:
  std::vector<std::byte> memory_;
  std::vector<std::byte*> free_, freed_;
  int count_;
  kd::device_pool pool_;
  int free_count_, freed_count_ = 0;
};

/// Staged rows of one step, of `heads` heads, and which of the list stay. Rewritten rows where merging is played.
struct commit_data {
  int accepted;
  std::vector<float> keys, values;     // [accepted, dim] of the head
  std::vector<float> state;            // [accepted, columns]
  std::vector<unsigned char> keep;     // [list] empty = all stay
  std::vector<unsigned char> changed;  // [list] empty = none
  std::vector<float> new_keys, new_values, new_bias;
};

template <class Codec, class Read, int Columns, bool Biased>
class two_heads {
 public:
  using page_type = kv::page_format<Codec, Read>;
  using rows_type = kv::head_rows<page_type, Columns, Biased>;
  static constexpr int span = page_type::span;

  two_heads(kv::pool& pool, device_pages& pages, const page_type& page)
      : pool_(pool), pages_(pages), page_(page), host_(pool) {
    place();
  }
  /// A fork: both sides share the pages of `other`.
  two_heads(const two_heads& other)
      : pool_(other.pool_), pages_(other.pages_), page_(other.page_), host_(other.host_), arrays_(other.arrays_),
        length_(other.length_) {
    const kd::device_head before = other.device_;
    place();
    device_.sinks = before.sinks, device_.packed = before.packed, device_.dead = before.dead;
    device_.window = before.window;
    kd::share_heads<page_type::rows>(&device_, 1, nullptr);
  }
  ~two_heads() { kd::release_heads<page_type::rows>(&device_, 1, pages_.pool(), nullptr); }

  const rows_type& host() const { return host_; }
  int length() const { return length_; }

  void commit(const commit_data& c) {
    on_device(c);
    on_host(c);
    length_ += c.accepted;
    compare();
  }

 private:
  static constexpr int most = 2048;
  struct storage {
    std::vector<std::byte*> page = std::vector<std::byte*>(most / 32 + 1);
    std::vector<int> position = std::vector<int>(most);
    std::vector<float> state = std::vector<float>(at(most) * std::max(1, Columns)), bias = std::vector<float>(most);
    std::vector<kv::half> dense[4];
  };
  void place() {
    for (auto& d : arrays_.dense) d.resize(at(most) * at(std::max(page_.key_dim, page_.value_dim)));
    auto& a = arrays_;
    device_ = {a.page.data(),
               a.position.data(),
               a.state.data(),
               Biased ? a.bias.data() : nullptr,
               a.dense[0].data(),
               a.dense[1].data(),
               a.dense[2].data(),
               a.dense[3].data(),
               0,
               0,
               0,
               0};
  }

  void on_device(const commit_data& c) {
    const auto array = [](const std::vector<float>& x, int dim) {
      return kd::device_array{const_cast<float*>(x.data()), kd::element::f32, dim, dim};
    };
    const kd::device_array keys = array(c.keys, page_.key_dim), values = array(c.values, page_.value_dim);
    const kd::device_apply sequence{&device_, {keys, 0}, {values, 0}, length_, c.accepted, nullptr};
    const auto or_null = [](auto& v) { return v.empty() ? nullptr : v.data(); };
    const kd::apply_batch batch{sequence,
                                1,
                                1,
                                1,
                                Codec::window,
                                Codec::sinks,
                                most,
                                std::max(1, c.accepted),
                                or_null(c.state),
                                or_null(c.keep),
                                or_null(c.changed),
                                or_null(c.new_keys),
                                or_null(c.new_values),
                                or_null(c.new_bias)};
    compare_list(batch, c);
    std::vector<float> workspace(kd::apply_workspace(page_, 1) / 4);
    kd::apply_rows<page_type, Columns, Biased>(page_, pages_.pool(), batch, or_null(workspace), nullptr);
    pages_.recycle();
  }

  /// The list of the head as numbers.
  void compare_list(const kd::apply_batch& batch, const commit_data& c) const {
    const int dk = page_.key_dim, dv = page_.value_dim;
    std::vector<float> keys(at(most * dk)), values(at(most * dv)), k, v;
    kd::list_numbers(page_, batch, keys.data(), values.data(), nullptr);
    kv::tile_scratch scratch;
    scratch.prepare(dk, dv);
    host_.for_each_tile(page_, scratch, {}, true, [&](const kv::row_tile& tile) {
      for (int r = 0; r < tile.rows; ++r) {
        if (tile.position[r] < 0) continue;
        k.insert(k.end(), tile.keys + r * dk, tile.keys + (r + 1) * dk);
        v.insert(v.end(), tile.values + r * dv, tile.values + (r + 1) * dv);
      }
    });
    k.insert(k.end(), c.keys.begin(), c.keys.end());
    v.insert(v.end(), c.values.begin(), c.values.end());
    REQUIRE(std::equal(k.begin(), k.end(), keys.begin()));
    REQUIRE(std::equal(v.begin(), v.end(), values.begin()));
  }

  /// As commit_job::apply.
  void on_host(const commit_data& c) {
    const int slots = host_.slots(), live = host_.live(), dk = page_.key_dim, dv = page_.value_dim;
    std::vector<int> source, leave, enter;
    for (int i = 0; i < slots; ++i)
      if (host_.position()[at(i)] >= 0) source.push_back(i);
    for (int i = 0; i < live; ++i)
      if (!c.keep.empty() && !c.keep[at(i)]) leave.push_back(source[at(i)]);
    for (int j = 0; j < c.accepted; ++j)
      if (c.keep.empty() || c.keep[at(live + j)]) enter.push_back(j);
    const auto entered = static_cast<int>(enter.size());
    int sinks = 0;
    for (const int j : enter) sinks += length_ + j < Codec::sinks;
    const int packed_end = host_.sinks() + host_.packed();
    const int window = host_.window() - static_cast<int>(std::count_if(leave.begin(), leave.end(),
                                                                       [&](int i) { return i >= packed_end; }));
    const int open = window + entered - sinks - Codec::window;
    const int pack = open > 0 ? open / span * span : 0, from_window = std::min(window, pack);
    pool_.reserve(at(host_.pages() * 2 + entered / page_type::rows + 2));
    host_.reserve(page_, entered, host_.sinks() + sinks, host_.window() + entered, host_.pages() + entered);

    const bool folded = !c.changed.empty();
    if (folded)
      for (int i = 0; i < live; ++i)
        if (c.changed[at(i)]) {
          host_.rewrite(pool_, page_, source[at(i)], c.new_keys.data() + i * dk, c.new_values.data() + i * dv);
          if (Biased) host_.set_bias(source[at(i)], c.new_bias[at(i)]);
        }
    host_.remove(page_, leave);
    const auto key = [&](int j) {
      return folded && c.changed[at(live + j)] ? c.new_keys.data() + (live + j) * dk : c.keys.data() + j * dk;
    };
    const auto value = [&](int j) {
      return folded && c.changed[at(live + j)] ? c.new_values.data() + (live + j) * dv : c.values.data() + j * dv;
    };
    for (int e = 0; e < entered; ++e) {
      const int j = enter[at(e)];
      const float* state = Columns > 0 ? c.state.data() + j * Columns : nullptr;
      if (e < sinks)
        host_.push_sink(page_, key(j), value(j), length_ + j, state);
      else
        host_.push_columns(length_ + j, state);
      if (Biased && folded && c.changed[at(live + j)])
        host_.set_bias(e < sinks ? host_.sinks() - 1 : host_.slots() - 1, c.new_bias[at(live + j)]);
    }
    std::vector<float> k(at(pack * dk)), v(at(pack * dv));
    host_.take_window(page_, 0, from_window, k.data(), v.data());
    int next = sinks;
    for (int r = from_window; r < pack; ++r, ++next) {
      std::copy_n(key(enter[at(next)]), dk, k.data() + r * dk);
      std::copy_n(value(enter[at(next)]), dv, v.data() + r * dv);
    }
    if (Codec::window > 0 || span > 1)
      for (auto* x : {&k, &v})
        for (float& f : *x) f = kv::to_float(kv::from_float<kv::half>(f));
    host_.pack(pool_, page_, k.data(), v.data(), pack);
    host_.forget_window(page_, from_window);
    for (; next < entered; ++next) host_.push_window(page_, key(enter[at(next)]), value(enter[at(next)]));
    const int left = static_cast<int>(leave.size()) + c.accepted - entered;
    if (left > 0) host_.compact(pool_, page_, left);
    pool_.give_back_reserve();
  }

  void compare() const { head_comparison<page_type, Columns, Biased>(page_, device_, host_).run(); }

  kv::pool& pool_;
  device_pages& pages_;
  const page_type& page_;
  rows_type host_;
  storage arrays_;
  kd::device_head device_{};
  int length_ = 0;
};

}  // namespace test
