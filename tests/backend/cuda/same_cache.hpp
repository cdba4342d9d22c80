// SPDX-License-Identifier: Apache-2.0
// One recipe on both backends: the same steps keep the same rows, write the same bytes and give the same attention.
#pragma once
#include <algorithm>
#include <vector>

#include <tersekv/backend/cuda.cuh>

#include "../../laws/cache.hpp"

#include "backend/cuda/same_head.hpp"
#include "simt/sanitizers.hpp"

namespace tersekv::detail {

/// What sequences hold, in this process's memory.
struct sequence_parts {
  template <class Sequence>
  static const auto& format(const Sequence& s) {
    return s.core_->format;
  }
  template <class Sequence>
  static const auto& head(const Sequence& s, int slot, int h) {
    return s.at(slot, h);
  }

  /// A copy of a head on a device.
  class head_copy {
   public:
    template <class Core>
    head_copy(const device_sequence<Core>& s, int slot, int h) : head_(s.look_at(slot, h)), stream_(s.stream()) {
      const auto rows = static_cast<std::size_t>(head_.rows()), page = s.core_->format.bytes() - page_ref::overhead;
      const auto key_dim = static_cast<std::size_t>(s.core_->shape.head_dim),
                 value_dim = static_cast<std::size_t>(s.core_->shape.value_dim);
      const auto of = [](int n) { return static_cast<std::size_t>(n); };
      copy(head_.page, (of(head_.packed) + Core::page::rows - 1) / Core::page::rows);
      for (std::size_t p = 0; p < bytes_.back().size() / sizeof(std::byte*); ++p) pages_.push_back(head_.page[p]);
      for (std::byte*& p : pages_) copy(p, page);
      head_.page = pages_.data();
      copy(head_.position, rows), copy(head_.state, rows * Core::columns);
      if (Core::biased) copy(head_.bias, rows);
      copy(head_.sink_keys, of(head_.sinks) * key_dim), copy(head_.sink_values, of(head_.sinks) * value_dim);
      copy(head_.window_keys, of(head_.window) * key_dim), copy(head_.window_values, of(head_.window) * value_dim);
    }
    const device_head& operator*() const { return head_; }

   private:
    template <class T>
    void copy(T*& at, std::size_t count) {
      auto& to = bytes_.emplace_back(count * sizeof(T));
      copy_to_host(to.data(), at, to.size(), stream_);
      at = reinterpret_cast<T*>(to.data());
    }
    device_head head_;
    cuda_stream stream_;
    std::vector<std::vector<std::byte>> bytes_;
    std::vector<std::byte*> pages_;
  };
};

}  // namespace tersekv::detail

namespace same {

namespace kv = tersekv;

/// The same recipe on the CPU and on a device, and one stream of tokens for both.
template <class... Ps>
class twins {
  using core = typename kv::cache<kv::cpu, Ps...>::core_type;

 public:
  static constexpr bool folds = core::merge_type::folds;
  /// tolerance: of outputs, relative to what the CPU gives; both approximate attention over the same packed rows.
  twins(const kv::model_shape& shape, int tokens, double tolerance, const kv::cuda& device, Ps... policies)
      : stream_(shape, tokens, 7), here_(kv::make_cache(shape, kv::cpu{}, policies...)),
        there_(kv::make_cache(shape, device, policies...)), tolerance_(tolerance) {}

  auto open() { return pair{here_.open(), there_.open()}; }
  /// A step that is dropped has not happened.
  template <class Pair>
  void drop(Pair& x, int n) {
    auto dropped = x.there.step(n, {.decode = true});
    laws::pass(there_, dropped, stream_, x.there.length(), n);
  }
  template <class Pair>
  void step(Pair& x, int n, kv::step_options options = {}, int accepted = -1) {
    CAPTURE(x.here.length(), n);
    {
      auto one = x.here.step(n, options);
      auto two = x.there.step(n, options);
      close(laws::pass(here_, one, stream_, x.here.length(), n), laws::pass(there_, two, stream_, x.there.length(), n));
      one.commit(accepted < 0 ? n : accepted), two.commit(accepted < 0 ? n : accepted);
    }
    compare(x);
  }

 private:
  template <class Here, class There>
  struct pair {
    Here here;
    There there;
    pair fork() const { return {here.fork(), there.fork()}; }
  };
  template <class Here, class There>
  pair(Here, There) -> pair<Here, There>;
  template <class Outputs>
  void close(const Outputs& wanted, const Outputs& got) const {
    const int dim = stream_.shape.value_dim;
    for (std::size_t l = 0; l < wanted.size(); ++l)
      for (std::size_t at = 0; at < wanted[l].size(); at += static_cast<std::size_t>(dim)) {
        CAPTURE(l, at);
        REQUIRE(test::relative_error(got[l].data() + at, wanted[l].data() + at, dim) <= tolerance_);
      }
  }
  template <class Pair>
  void compare(const Pair& x) const {
    using parts = kv::detail::sequence_parts;
    using heads = test::head_comparison<typename core::page, core::columns, core::biased>;
    REQUIRE(x.here.length() == x.there.length());
    // Masses come from weights of different precision, and merging weighs rows by them.
    test::head_tolerance tolerance{2e-2f};
    if (folds) tolerance.rows = 2e-3f, tolerance.codes = 0.01;
    for (int slot = 0; slot < here_.plan().slots(); ++slot)
      for (int h = 0; h < stream_.shape.kv_heads; ++h) {
        CAPTURE(slot, h);
        REQUIRE(x.here.positions(slot, h) == x.there.positions(slot, h));
        const parts::head_copy there(x.there, slot, h);
        heads(parts::format(x.here), *there, parts::head(x.here, slot, h), tolerance).run();
      }
    const kv::report_data a = kv::report(x.here), b = kv::report(x.there);
    REQUIRE(a.rows_kept == b.rows_kept);
    REQUIRE(a.page_bytes == b.page_bytes);
  }

  test::stream stream_;
  kv::cache<kv::cpu, Ps...> here_;
  kv::cache<kv::cuda, Ps...> there_;
  double tolerance_;
};

/// A long life of one recipe: chunks, tokens, drafts accepted in part, forks.
template <class... Ps>
void cache_on(const kv::cuda& device, int protected_rows, double tolerance, Ps... policies) {
  constexpr int part = simt::address_sanitizer ? 6 : 1;  // of the tokens that are decoded
  twins<Ps...> both({.layers = 3, .query_heads = 4, .kv_heads = 2, .head_dim = 64}, 240, tolerance, device,
                    policies...);
  auto chat = both.open();
  if (protected_rows > 0) chat.here.protect(10, 10 + protected_rows), chat.there.protect(10, 10 + protected_rows);
  both.step(chat, 50, {.more = true});
  both.step(chat, 41);
  for (int i = 0; i < 12 / part; ++i) both.step(chat, 1);
  both.step(chat, 4, {.decode = true}, 2);
  both.drop(chat, 3);
  auto fork = chat.fork();
  for (int i = 0; i < 6 / part; ++i) both.step(fork, 1);
  for (int i = 0; i < 40 / part; ++i) both.step(chat, 1);
  for (int i = 0; i < 3; ++i) both.step(fork, 1);
}
template <class... Ps>
void cache(double tolerance, Ps... policies) {
  cache_on({}, 0, tolerance, policies...);
}

/// A short one, for many recipes. Where rows are merged, a number may have become another code.
template <class... Ps>
void recipe(Ps... policies) {
  constexpr double tolerance = twins<Ps...>::folds ? 5e-2 : 2e-2;
  twins<Ps...> both({.layers = 4, .query_heads = 4, .kv_heads = 2, .head_dim = 32}, 120, tolerance, {}, policies...);
  auto chat = both.open();
  both.step(chat, 40, {.more = true});
  both.step(chat, 33);
  for (int i = 0; i < 9; ++i) both.step(chat, 1);
  both.step(chat, 4, {.decode = true}, 2);
  both.step(chat, 1);
}

}  // namespace same
