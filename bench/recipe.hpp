// SPDX-License-Identifier: Apache-2.0
// A recipe as the benchmarks see it: a name, and functions behind which its types are compiled once.
#pragma once
#include <algorithm>
#include <cctype>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <tersekv/any_cache.hpp>
#include <tersekv/tersekv.hpp>

#include "reference.hpp"

namespace bench {

namespace kv = tersekv;

struct head_shape {
  int kv_heads, group, head_dim;
  int query_heads() const { return kv_heads * group; }
  kv::model_shape model() const {
    return {.layers = 1, .query_heads = query_heads(), .kv_heads = kv_heads, .head_dim = head_dim};
  }
};

/// Keys and values of rows, [rows, dim] each.
struct rows_of_head {
  std::vector<float> keys, values;
};

struct recipe {
  std::string name;
  std::string peer;  // ggml type of the nearest bits; empty = none
  bool integer;      // multiplies integers, not floats
  std::string text;  // as the menu spells it
  kv::any_cache make(const kv::model_shape& shape, const kv::cpu& backend) const;
  /// Rows as a cache that saw only these reads them back.
  std::function<void(rows_of_head&, int dim)> read_back;
  /// Plain attention of `group` queries over encoded rows (reference.hpp); a call is one pass.
  std::function<std::function<void()>(const rows_of_head&, int dim, int group)> reference;
  /// Encodes all rows, `rows` at a time (rounded up to what the codec packs together).
  std::function<std::function<void()>(const rows_of_head&, int dim, int rows)> encode;
};

template <class Codec>
struct codec_entry {
  const char* name;
  const char* peer;
};

template <class T>
inline constexpr bool is_dense = false;
template <class T>
inline constexpr bool is_dense<kv::dense<T>> = true;

/// Policies that are composed somewhere in the benchmarks.
template <class... Ps>
struct composition {};

/// What the translation units fill (codecs_*.cpp).
struct catalogue {
  std::vector<recipe> codecs;
  kv::menu menu;  // of these, and of all compositions
};
/// All of them.
catalogue& all_of_them();

/// A cache of the menu.
inline kv::any_cache make(const std::string& text, const kv::model_shape& shape, const kv::cpu& backend) {
  return all_of_them().menu.make(shape, text, backend);
}

/// Pages of one head.
template <class Codec>
struct encoded_rows {
  using format_type = kv::page_format<Codec, kv::read_all>;
  format_type format;
  std::vector<std::byte> bytes;
  int rows;

  encoded_rows(int n, int dim)
      : format(Codec{}, kv::read_all{}, dim, dim), rows(n / format_type::rows * format_type::rows) {
    bytes.resize(static_cast<std::size_t>(rows / format_type::rows) * format.bytes());
  }
  std::byte* page(int row) { return bytes.data() + static_cast<std::size_t>(row / format_type::rows) * format.bytes(); }
  void encode(const float* keys, const float* values, int step) {
    step = std::min(format_type::rows, (step + format_type::span - 1) / format_type::span * format_type::span);
    for (int r = 0; r < rows; r += step)
      format.encode(page(r), r % format_type::rows, step, keys + static_cast<std::ptrdiff_t>(r) * format.key_dim,
                    values + static_cast<std::ptrdiff_t>(r) * format.value_dim);
  }
};

template <class Codec>
recipe make_recipe(const codec_entry<Codec>& entry) {
  using encoded = encoded_rows<Codec>;
  recipe out;
  out.name = entry.name, out.peer = entry.peer, out.integer = !is_dense<Codec>;
  kv::menu menu;
  menu.add<kv::cpu, Codec>();
  out.text = menu.names().front();
  // The menu names what may be tuned behind a plus: "hadamard=0+seed".
  for (auto plus = out.text.rfind('+');
       plus != std::string::npos && std::isalpha(static_cast<unsigned char>(out.text[plus + 1]));
       plus = out.text.rfind('+'))
    out.text.erase(plus);
  out.read_back = [](rows_of_head& x, int dim) {
    constexpr int span = encoded::format_type::span;
    const int n = static_cast<int>(x.keys.size()) / dim, packed = std::max(0, n - Codec::window) / span * span;
    const int whole =
        (packed + encoded::format_type::rows - 1) / encoded::format_type::rows * encoded::format_type::rows;
    if (Codec::window > 0 || span > 1)  // rows wait in 16 bit
      for (auto* rows : {&x.keys, &x.values})
        for (float& v : *rows) v = kv::to_float(kv::from_float<kv::half>(v));
    encoded e(whole, dim);
    for (int r = 0; r < packed; r += span) {
      const auto at = static_cast<std::ptrdiff_t>(r) * dim;
      e.format.encode(e.page(r), r % encoded::format_type::rows, span, x.keys.data() + at, x.values.data() + at);
    }
    for (int r = 0; r < packed; r += span) {
      const auto at = static_cast<std::ptrdiff_t>(r) * dim;
      e.format.decode_keys(e.page(r), r % encoded::format_type::rows, span, x.keys.data() + at);
      e.format.decode_values(e.page(r), r % encoded::format_type::rows, span, x.values.data() + at);
    }
  };
  out.reference = [](const rows_of_head& x, int dim, int group) -> std::function<void()> {
    auto e = std::make_shared<encoded>(static_cast<int>(x.keys.size()) / dim, dim);
    e->encode(x.keys.data(), x.values.data(), encoded::format_type::rows);
    std::vector<float> q(x.keys.begin(), x.keys.begin() + group * dim), result(q.size());
    return [e, q, result, group, dim]() mutable {
      plain_attention(
          e->format, [&](int r) { return e->page(r); }, e->rows, q.data(), group, dim, result.data());
    };
  };
  out.encode = [](const rows_of_head& x, int dim, int step) -> std::function<void()> {
    auto e = std::make_shared<encoded>(static_cast<int>(x.keys.size()) / dim, dim);
    return [e, &x, step] { e->encode(x.keys.data(), x.values.data(), step); };
  };
  return out;
}

inline kv::any_cache recipe::make(const kv::model_shape& shape, const kv::cpu& backend) const {
  return bench::make(text, shape, backend);
}

template <class... Ps>
void add(catalogue& to, composition<Ps...>) {
  to.menu.add<kv::cpu, Ps...>();
}
template <class Codec>
void add(catalogue& to, const codec_entry<Codec>& entry) {
  to.codecs.push_back(make_recipe(entry));
  to.menu.add<kv::cpu, Codec>();
}
template <class... Entries>
void add_all(catalogue& to, const std::tuple<Entries...>& entries) {
  std::apply([&](const auto&... e) { (add(to, e), ...); }, entries);
}

}  // namespace bench
