// SPDX-License-Identifier: Apache-2.0
// What every codec keeps inside a cache: attention sees sinks | packed | window | new rows, each as its format says.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include <tersekv/adapt/through.hpp>
#include <tersekv/cache.hpp>
#include <tersekv/codec/grouped.hpp>
#include <tersekv/codec/kivi.hpp>

#include "catch.hpp"
#include "support.hpp"

namespace laws {

namespace kv = tersekv;

inline float as_half(float x) { return kv::to_float(kv::from_float<kv::half>(x)); }

/// How a head's committed rows are spread, when none has left.
struct spread {
  int sinks, packed, window;
};
template <class Codec>
spread spread_of(const Codec&, int tokens) {
  constexpr int span = std::lcm(Codec::key_format::span, Codec::value_format::span);
  const int sinks = std::min(tokens, Codec::sinks), rest = tokens - sinks;
  const int packed = std::max(0, rest - Codec::window) / span * span;
  return {sinks, packed, rest - packed};
}

/// x[tokens, dim] as the codec holds it, by the format alone.
template <class Format>
void as_stored(const Format& f, const spread& s, int dim, bool waits, std::vector<float>& x) {
  const auto n = [&](int rows) { return static_cast<std::ptrdiff_t>(rows) * dim; };
  std::vector<float> body(x.begin() + n(s.sinks), x.begin() + n(s.sinks + s.packed));
  for (float& v : x) v = as_half(v);
  if (s.packed == 0) return;
  if (waits) std::transform(body.begin(), body.end(), body.begin(), as_half);
  std::vector<std::byte> tile(f.bytes(s.packed, dim));
  f.encode(body.data(), dim, tile.data(), s.packed, 0, s.packed);
  f.decode(tile.data(), s.packed, 0, s.packed, dim, x.data() + n(s.sinks));
}

/// Bits of a format's codes; 0 = it stores numbers.
template <class Format>
inline constexpr int code_bits = 0;
template <class Grid, int Group, class Reopen, class Layout>
inline constexpr int code_bits<kv::grouped_format<Grid, Group, Reopen, Layout>> = Grid::bits;
template <class Grid, int Span, class Reopen, class Layout>
inline constexpr int code_bits<kv::channel_format<Grid, Span, Reopen, Layout>> = Grid::bits;
template <class Transform, class Format, bool Keys>
inline constexpr int code_bits<kv::through_format<Transform, Format, Keys>> = code_bits<Format>;

/// Bits of the codes that the decoding kernels multiply as they are; 0 = they work on numbers, stored or decoded.
template <class Codec>
inline constexpr std::array<int, 2> kernel_bits = {
    kv::detail::key_kernel<typename Codec::key_format>::packed ? code_bits<typename Codec::key_format> : 0,
    kv::detail::value_kernel<typename Codec::value_format>::packed ? code_bits<typename Codec::value_format> : 0};

/// How attention differs; root mean squares over all outputs.
struct attention_error {
  double kernel;  // of what was computed, against float64 attention over the decoded rows
  double codec;   // of float64 attention over the decoded rows, against the rows as they came
  double size;    // of float64 attention over the decoded rows
};

/// What rounding queries and weights may cost. Codes of up to 4 bits: an eighth of what the codec itself costs, and a
/// fifth of that for chance, which is enough for 64 query heads: normal rows have 0.08 .. 0.14 with 4 bits, less with
/// fewer; most where keys have 8 bits, which cost nothing, and values 4. Wider codes, whose own cost is small, meet
/// queries and weights of 16 bits: a thousandth of the outputs. Numbers: float attention over some hundred rows.
template <class Codec>
double kernel_tolerance(const attention_error& e) {
  constexpr int keys = kernel_bits<Codec>[0], values = kernel_bits<Codec>[1];
  constexpr bool coarse = (keys > 0 && keys <= 4) || (values > 0 && values <= 4);
  return 1e-5 * e.size + (coarse ? 0.125 * e.codec : keys + values > 0 ? 1e-3 * e.size : 0.0);
}

/// Feeds `tokens` tokens in chunks (the last size repeats) and compares the next token's attention with float64
/// attention over the rows as the formats decode them. Returns the outputs of that token.
template <class... Policies>
std::vector<float> attends_decoded_rows(const kv::model_shape& shape, int tokens, const std::vector<int>& chunks,
                                        Policies... policies) {
  test::stream s(shape, tokens + 1);
  const kv::model_shape& full = s.shape;
  auto cache = kv::make_cache(shape, kv::cpu{}, policies...);
  auto sequence = cache.open();
  for (std::size_t i = 0; sequence.length() < tokens; i = std::min(i + 1, chunks.size() - 1))
    test::feed(cache, sequence, s, std::min(chunks[i], tokens - sequence.length()));
  const auto& codec = cache.codec();
  using codec_type = std::remove_cvref_t<decltype(codec)>;
  const spread parts = spread_of(codec, tokens);
  for (const auto& head : sequence.report().kept) {
    CHECK(head.packed == parts.packed);
    CHECK(head.window == parts.sinks + parts.window);
  }
  constexpr bool waits =
      codec_type::window > 0 || codec_type::key_format::span > 1 || codec_type::value_format::span > 1;
  auto step = sequence.step(1);
  const auto out = test::run(cache, step, s, tokens, 1);
  attention_error e{};
  for (int h = 0; h < full.kv_heads; ++h) {
    std::vector<float> k, v;
    std::vector<const float*> keys, values, true_keys, true_values;
    for (int t = 0; t <= tokens; ++t) {
      true_keys.push_back(s.key(0, t, h)), true_values.push_back(s.value(0, t, h));
      if (t == tokens) break;  // the step's own row is read as it came
      k.insert(k.end(), true_keys.back(), true_keys.back() + full.head_dim);
      v.insert(v.end(), true_values.back(), true_values.back() + full.value_dim);
    }
    as_stored(codec.for_keys(), parts, full.head_dim, waits, k);
    as_stored(codec.for_values(), parts, full.value_dim, waits, v);
    for (int t = 0; t < tokens; ++t) {
      keys.push_back(k.data() + static_cast<std::ptrdiff_t>(t) * full.head_dim);
      values.push_back(v.data() + static_cast<std::ptrdiff_t>(t) * full.value_dim);
    }
    keys.push_back(true_keys.back()), values.push_back(true_values.back());
    for (int g = 0; g < full.group(); ++g) {
      const int q = h * full.group() + g;
      const auto over = [&](const auto& some_keys, const auto& some_values) {
        return test::attention(s.query(0, tokens, q), some_keys, some_values, full.head_dim, full.value_dim,
                               static_cast<double>(full.scale));
      };
      const auto decoded = over(keys, values), exact = over(true_keys, true_values);
      const float* got = out[0].data() + static_cast<std::ptrdiff_t>(q) * full.value_dim;
      for (std::size_t c = 0; c < decoded.size(); ++c) {
        const double kernel = static_cast<double>(got[c]) - decoded[c], loss = decoded[c] - exact[c];
        e.kernel += kernel * kernel, e.codec += loss * loss, e.size += decoded[c] * decoded[c];
      }
    }
  }
  for (double* x : {&e.kernel, &e.codec, &e.size}) *x = std::sqrt(*x / (full.query_heads * full.value_dim));
  CAPTURE(kernel_bits<codec_type>, full.head_dim, tokens, e.codec, e.size);
  CHECK(e.kernel <= kernel_tolerance<codec_type>(e));
  return out[0];
}

/// The value that row t of a one-head stream has for attention: a query along its key takes all of the weight.
template <class Cache, class Sequence>
std::vector<float> value_read(const Cache&, Sequence& sequence, const test::stream& s, int t) {
  const int dk = s.shape.head_dim, dv = s.shape.value_dim;
  std::vector<float> q(s.key(0, t, 0), s.key(0, t, 0) + dk), zero(static_cast<std::size_t>(std::max(dk, dv))),
      out(static_cast<std::size_t>(dv));
  for (float& x : q) x *= 60;
  auto step = sequence.step(1);
  step.append(0, kv::view(zero.data(), 1, 1, dk), kv::view(zero.data(), 1, 1, dv));
  step.attend(0, kv::view(q.data(), 1, 1, dk), kv::view(out.data(), 1, 1, dv));
  return out;
}
/// Whether it is the stream's value rounded to 16 bit and nothing else. The row's weight and the sum of weights are the
/// same number near 1, so that a product and a quotient are rounded: two steps of a float, 2^-12 of those of 16 bit.
template <class Cache, class Sequence>
bool holds_exactly(const Cache& cache, Sequence& sequence, const test::stream& s, int t) {
  const auto got = value_read(cache, sequence, s, t);
  for (int c = 0; c < s.shape.value_dim; ++c) {
    const float want = as_half(s.value(0, t, 0)[c]);
    if (!(std::abs(got[static_cast<std::size_t>(c)] - want) <= 2.4e-7f * std::abs(want))) return false;
  }
  return true;
}

/// The same tokens in other steps, and a fork, give the same attention bit for bit.
template <class... Policies>
void does_not_depend_on_steps(const kv::model_shape& shape, int tokens, Policies... policies) {
  const auto whole = attends_decoded_rows(shape, tokens, {tokens}, policies...);
  CHECK(attends_decoded_rows(shape, tokens, {1}, policies...) == whole);
  CHECK(attends_decoded_rows(shape, tokens, {37, 5, 64, 1, 1, 2, 90, 3}, policies...) == whole);
  CHECK(attends_decoded_rows(shape, tokens, {tokens / 2, 1}, policies...) == whole);
}

/// After a fork both sides go on alone.
template <class... Policies>
void forks_apart(const kv::model_shape& shape, int tokens, Policies... policies) {
  auto cache = kv::make_cache(shape, kv::cpu{}, policies...);
  test::stream s(shape, tokens + 70), other(shape, tokens + 70, 77);
  auto a = cache.open();
  test::feed(cache, a, s, tokens);
  auto b = a.fork();
  for (int i = 0; i < 65; ++i) {
    test::feed(cache, a, s, 1);
    test::feed(cache, b, other, 1);
  }
  auto c = cache.open(), d = cache.open();
  test::feed(cache, c, s, tokens), test::feed(cache, d, s, tokens);
  test::feed(cache, c, s, 65), test::feed(cache, d, other, 65);
  CHECK(test::feed(cache, a, s, 1) == test::feed(cache, c, s, 1));
  CHECK(test::feed(cache, b, s, 1) == test::feed(cache, d, s, 1));
}

}  // namespace laws
