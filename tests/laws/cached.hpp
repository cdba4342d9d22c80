// SPDX-License-Identifier: Apache-2.0
// What every codec keeps inside a cache: attention sees sinks | packed | window | new rows, each as its format says.
#pragma once
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include <tersekv/cache.hpp>

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
  double worst = 0;
  for (int h = 0; h < full.kv_heads; ++h) {
    std::vector<float> k, v;
    for (int t = 0; t < tokens; ++t) {
      k.insert(k.end(), s.key(0, t, h), s.key(0, t, h) + full.head_dim);
      v.insert(v.end(), s.value(0, t, h), s.value(0, t, h) + full.value_dim);
    }
    as_stored(codec.for_keys(), parts, full.head_dim, waits, k);
    as_stored(codec.for_values(), parts, full.value_dim, waits, v);
    std::vector<const float*> keys, values;
    for (int t = 0; t < tokens; ++t) {
      keys.push_back(k.data() + static_cast<std::ptrdiff_t>(t) * full.head_dim);
      values.push_back(v.data() + static_cast<std::ptrdiff_t>(t) * full.value_dim);
    }
    keys.push_back(s.key(0, tokens, h)), values.push_back(s.value(0, tokens, h));
    for (int g = 0; g < full.group(); ++g) {
      const int q = h * full.group() + g;
      const auto want = test::attention(s.query(0, tokens, q), keys, values, full.head_dim, full.value_dim,
                                        static_cast<double>(full.scale));
      worst = std::max(worst, test::relative_error(out[0].data() + static_cast<std::ptrdiff_t>(q) * full.value_dim,
                                                   want.data(), full.value_dim));
    }
  }
  CHECK(worst < 1e-5);  // float attention over some hundred rows
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
/// Whether it is the stream's value rounded to 16 bit and nothing else.
template <class Cache, class Sequence>
bool holds_exactly(const Cache& cache, Sequence& sequence, const test::stream& s, int t) {
  const auto got = value_read(cache, sequence, s, t);
  for (int c = 0; c < s.shape.value_dim; ++c)
    if (got[static_cast<std::size_t>(c)] != as_half(s.value(0, t, 0)[c])) return false;
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
