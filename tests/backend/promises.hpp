// SPDX-License-Identifier: Apache-2.0
// What every packed kernel keeps, whatever it reads. Tests name candidates (kernels.hpp) and call these.
#pragma once
#include <array>
#include <cstdio>
#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace promises {

using namespace test;

/// For a single draw of `numbers` outputs: a quarter of the codec's error, as much as that where 8 numbers are all.
/// Both errors scatter then: of ratios of 8 numbers half are above .12, one in a hundred above .33, one in a thousand
/// above .5. Accuracy is measured below, over many draws.
inline bool near(const errors& e, int bits, int numbers) {
  const double of_square = (1 + 120.0 / numbers) / 16;
  return bits <= 4 ? e.kernel <= of_square * e.quantization + 1e-10 * e.output : e.used(bits) <= 1;
}

/// Without a minimum all codes of values far from zero are near the largest, and what rounding weights changes adds up:
/// .16 to .2 of the codec (q4_0), one error for all numbers of a group.
inline bool adds_up(const candidate& codec, const kind& what) {
  const bool no_minimum = codec.name == "q4_0" || codec.name == "symmetric<4>";
  return kd::simd::rounds_narrow && no_minimum && std::strcmp(what.name, "values far from zero") == 0;
}

/// Under an emulator: fewer draws.
inline bool quick() { return std::getenv("TERSEKV_QUICK") != nullptr; }

/// The promise of kernels.hpp, for every kind of input, over some draws of 1000 rows.
inline void stays_below_the_codecs_error(const candidate& codec, int dim = 128) {
  const unsigned seed = fresh_seed();
  const auto on = codec.make(dim, dim);
  REQUIRE(on);
  const int queries = on->together.size() > 1 ? 4 : on->together[0];
  const bool report = std::getenv("TERSEKV_REPORT") != nullptr;
  for (const kind& what : kinds()) {
    const auto draws = [&](unsigned first, unsigned count) {
      errors sum;
      for (unsigned i = first; i < first + count; ++i)
        sum += measure(*on, draw(what, 1000, queries, dim, dim, seed + i));
      return sum;
    };
    const unsigned few = quick() ? 2 : 8;
    errors all = draws(0, few);
    if (report)
      std::printf("%-16s %3d %-24s of quantization %.3f  of output %.1e  used %.2f  total %+.1f %%\n",
                  codec.name.c_str(), dim, what.name, all.ratio(), all.relative(), all.used(on->bits),
                  100 * all.added());
    // A quarter where a codec has hardly an error of its own (groups of one huge number and zeros), or one row is left
    // of all: docs/kernels.md.
    const std::string name = what.name;
    const bool odd = on->bits <= 4 && (name == "logits of eighty" || name == "value outliers");
    const bool alike = codec.name == "q4_0" && adds_up(codec, what);
    const double limit = odd || alike ? 2 : 1;
    const double added = on->bits > 4 ? std::numeric_limits<double>::infinity() : limit > 1 ? 0.1 : 0.02;
    // Of few draws one may lie far out: of 2 in one run of fifty, of 8 in one of a hundred. Then 32 others decide.
    if (all.used(on->bits) > limit || all.added() > added) all = draws(few, 32);
    CAPTURE(codec.name, dim, what.name, seed, all.ratio(), all.relative(), all.added());
    CHECK(all.used(on->bits) <= limit);
    CHECK(all.added() <= added);
  }
}

/// The same over all shapes that groups divide: no case far out, all together within the promise.
inline void takes_any_shape(const candidate& codec) {
  static constexpr std::array<int, 7> dims = {8, 40, 64, 80, 96, 128, 256};
  static constexpr std::array<int, 7> lengths = {1, 31, 32, 33, 128, 129, 1000};
  const unsigned seed = fresh_seed();
  std::mt19937 engine(seed);
  errors all;
  int bits = 0, count = 0;
  for (const int dk : dims)
    for (const int length : lengths) {
      if (quick() && length == 1000) continue;
      int dv = 0;
      std::unique_ptr<kernels> on;  // of any value_dim that the codec takes
      for (std::size_t i = engine() % dims.size(), tries = 0; !on && tries < dims.size(); ++i, ++tries)
        on = codec.make(dk, dv = dims[i % dims.size()]);
      CAPTURE(codec.name, dk);
      REQUIRE((on != nullptr) == codec.takes_keys_of(dk));
      if (!on) continue;
      const int queries = on->together[engine() % on->together.size()];
      const unsigned case_seed = static_cast<unsigned>(engine());
      const errors e = measure(*on, draw(kinds()[0], length, queries, dk, dv, case_seed));
      CAPTURE(codec.name, seed, case_seed, dk, dv, length, queries, e.ratio(), e.relative());
      CHECK(near(e, on->bits, queries * dv));
      const errors parts{e.kernel / e.output, e.quantization / e.output, 1, e.total / e.output};
      all += parts;
      bits = on->bits;
      ++count;
    }
  CAPTURE(codec.name, seed, all.ratio(), all.relative());
  for (double* x : {&all.kernel, &all.quantization, &all.output}) *x /= count;
  CHECK(all.used(bits) <= 1);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
inline bool same_bits(const state& a, const state& b) {
  return same_bits(a.maximum, b.maximum) && same_bits(a.sum, b.sum) && same_bits(a.out, b.out);
}

inline constexpr int dim = 64;  // of single draws

/// Dead rows, windows, room behind the last row.
inline void hides_rows(const kernels& on, unsigned seed) {
  const int rows = 300, queries = on.together.back();
  std::mt19937 engine(seed);
  const inputs x = draw(kinds()[1], rows, queries, dim, dim, seed), other = draw(kinds()[10], 400, 1, dim, dim, seed);

  // What is left of old rows behind the last one does not count.
  if (on.span == 1) {
    packed_rows clean(on, x), used(on, x, &other);
    const auto all = clean.sees_all(queries);
    CHECK(same_bits(clean.attend(x.q.data(), queries, all), used.attend(x.q.data(), queries, all)));
  }

  packed_rows held(on, x);
  const inputs decoded = held.decoded(x);
  std::vector<bool> dead(at(rows));
  for (int t = 0; t < rows; ++t)
    if (engine() % 3 == 0 || (t >= 64 && t < 130)) dead[at(t)] = true, held.position[at(t)] = -1;
  std::vector<kd::sight> see;
  for (int r = 0; r < queries; ++r) see.push_back({20 * r, 299 - 10 * r});
  const auto seen = [&](int r, int t) { return !dead[at(t)] && t >= see[at(r)].oldest && t <= see[at(r)].newest; };
  const auto want = attention(decoded, seen);
  errors e = compare(held.attend(x.q.data(), queries, see).outputs(on), want, attention(x, seen));
  CHECK(near(e, on.bits, queries * dim));

  // One window for all queries goes another way.
  const std::vector<kd::sight> same(at(queries), {101, 250});
  const auto inside = [&](int, int t) { return !dead[at(t)] && t >= 101 && t <= 250; };
  e = compare(held.attend(x.q.data(), queries, same).outputs(on), attention(decoded, inside), attention(x, inside));
  CHECK(near(e, on.bits, queries * dim));

  // Hidden rows may hold anything: same bits.
  if (on.span == 1) {
    inputs changed = x;
    for (int t = 0; t < rows; ++t)
      for (int c = 0; c < dim && dead[at(t)]; ++c)
        changed.key(t, c) = 100 * other.k[cells(t, dim) + at(c)], changed.value(t, c) = 1e4f;
    packed_rows with(on, changed);
    with.position = held.position;
    CHECK(same_bits(held.attend(x.q.data(), queries, see), with.attend(x.q.data(), queries, see)));
  }

  // Queries that see nothing beside others that do: theirs is the empty state.
  for (int r = 1; r < queries; r += 2) see[at(r)] = {1000, 2000};
  const state beside = held.attend(x.q.data(), queries, see);
  for (int r = 1; r < queries; r += 2) {
    CHECK(beside.maximum[at(r)] == kd::minus_infinity);
    CHECK(beside.sum[at(r)] == 0);
    const auto out = beside.out.begin() + r * beside.stride;
    CHECK(std::all_of(out, out + dim, [](float y) { return y == 0; }));
  }

  // Nothing seen: the empty state.
  const std::vector<kd::sight> nothing(at(queries), {1000, 2000});
  CHECK(same_bits(held.attend(x.q.data(), queries, nothing), state(queries, dim)));
  state none(queries, dim);
  held.attend(none, held.query(x.q.data(), queries), queries, 0, 0, see);
  CHECK(same_bits(none, state(queries, dim)));
}

/// Biases count as logits; the record has all weights, zero where rows are hidden. More tiles than are weighed
/// together.
inline void adds_biases_and_records_weights(const kernels& on, unsigned seed) {
  const int rows = 1069, hidden = rows - 1, queries = on.together.back();
  std::mt19937 engine(seed);
  const inputs x = draw(kinds()[0], rows, queries, dim, dim, seed);
  packed_rows held(on, x);
  const inputs decoded = held.decoded(x);
  for (int t = 0; t < rows; ++t) held.bias.push_back(2 * test::detail::normal(engine));
  held.bias[7] = 4, held.bias[200] = -100;
  held.position[11] = held.position[at(hidden)] = -1;
  const auto seen = [&](int, int t) { return t != 11 && t != hidden; };

  const int tiles = (rows + kd::soft_rows - 1) / kd::soft_rows;
  std::vector<kd::tile_weights> weights(cells(tiles, queries));
  std::vector<float> maximum(weights.size());
  std::vector<kd::weight_record::tile_rows> where(at(tiles));
  const kd::weight_record record{weights.data(), maximum.data(), where.data(), queries};
  const auto result = held.attend(x.q.data(), queries, held.sees_all(queries), record);
  const errors e = compare(result.outputs(on), attention(decoded, seen, held.bias), attention(x, seen, held.bias));
  CAPTURE(e.ratio(), e.relative());
  CHECK(near(e, on.bits, queries * dim));

  double off = 0, codec_off = 0;
  for (int r = 0; r < queries; ++r)
    for (int t = 0; t < rows; ++t) {
      const auto tile = record.from(t / kd::soft_rows, r);
      const int in_tile = t % kd::soft_rows, piece = in_tile / kd::piece_rows;
      REQUIRE(tile.rows->index[piece] == t / kd::piece_rows * kd::piece_rows);
      REQUIRE(tile.rows->count[piece] == std::min(kd::piece_rows, rows - tile.rows->index[piece]));
      const float p = tile.weights->of[in_tile];
      if (!seen(r, t)) {
        REQUIRE(p == 0);
        continue;
      }
      if (t == 200) {  // too little for a float
        REQUIRE(p < 1e-35f);
        continue;
      }
      const float got = std::log2(p) + *tile.maximum;
      const double bias = static_cast<double>(held.bias[at(t)]) / std::log(2.0), want = decoded.logit(r, t) + bias;
      off += std::pow(static_cast<double>(got) - want, 2), codec_off += std::pow(want - x.logit(r, t) - bias, 2);
    }
  CHECK(std::sqrt(off) <= std::sqrt(codec_off) / 4 + 1e-4 * std::sqrt(static_cast<double>(rows)));
}

/// Parts of the rows, and queries one by one: each within the promise; numbers give the same but for float rounding.
inline void merges_parts(const candidate& codec, const kernels& on, unsigned seed) {
  const int rows = 1000, queries = on.together.back();
  std::mt19937 engine(seed);
  for (const int k : {0, 3, 8}) {
    const int numbers = adds_up(codec, kinds()[at(k)]) ? 2 * queries : dim * queries;  // that err independently
    const inputs x = draw(kinds()[at(k)], rows, queries, dim, dim, seed);
    const packed_rows held(on, x);
    const auto decoded = attention(held.decoded(x)), true_rows = attention(x);
    const auto see = held.sees_all(queries);
    const auto whole = held.attend(x.q.data(), queries, see).outputs(on);
    const auto query = held.query(x.q.data(), queries);
    for (int round = 0; round < (quick() ? 1 : 4); ++round) {
      state sum(queries, dim);
      kd::merge(sum.ref(), state(queries, dim).ref(), queries);  // nothing, to nothing
      for (int first = 0; first < held.pieces();) {
        const int last = std::min(held.pieces(), first + 1 + static_cast<int>(engine() % 9));
        state part(queries, dim);
        held.attend(part, query, queries, first, last, see);
        const state before = part;
        kd::merge(part.ref(), state(queries, dim).ref(), queries);
        CHECK(same_bits(part, before));
        kd::merge(sum.ref(), part.ref(), queries);
        first = last;
      }
      const auto got = sum.outputs(on);
      const errors e = compare(got, decoded, true_rows);
      CAPTURE(kinds()[at(k)].name, e.ratio(), e.relative());
      CHECK(near(e, on.bits, numbers));
      // Integer weights have scales of their own in every part: only numbers are the same.
      if (on.bits > 8) CHECK(mean_square(got, whole) <= 1e-12 * e.output);
    }
    if (on.together.front() != 1) continue;
    std::vector<float> singly;
    for (int r = 0; r < queries; ++r) {
      const auto one = held.attend(x.q.data() + r * kd::padded(dim), 1, see).outputs(on);
      singly.insert(singly.end(), one.begin(), one.end());
    }
    const errors e = compare(singly, decoded, true_rows);
    CAPTURE(kinds()[at(k)].name, e.ratio(), e.relative());
    CHECK(near(e, on.bits, numbers));
    if (on.bits > 8) CHECK(mean_square(singly, whole) <= 1e-12 * e.output);
  }
}

/// The largest sums of products: codes at the ends of their range, queries and weights that are all of one size.
inline void sums_fit(const candidate& codec) {
  for (const int dim : {64, 128, 256})
    for (const bool signs : {false, true}) {
      const unsigned seed = fresh_seed();
      CAPTURE(codec.name, seed, dim, signs);
      const auto on = codec.make(dim, dim);
      REQUIRE(on);
      for (const int queries : on->together) {
        inputs x = draw(kinds()[0], 400, queries, dim, dim, seed);
        const auto sign = [&](int c) { return signs && c * c % 7 == 2 ? -1.0f : 1.0f; };
        const auto end = [&](int t, int c) { return c == t % dim ? -sign(c) : sign(c); };  // every row has both
        for (int c = 0; c < dim; ++c) {
          for (int r = 0; r < queries; ++r) x.query(r, c) = (r % 2 == 0 ? sign(c) : -sign(c)) / static_cast<float>(dim);
          for (int t = 0; t < x.rows; ++t) x.key(t, c) = (t % 2 == 0 ? end(t, c) : -end(t, c)) + 0.05f * x.key(t, c);
        }
        const errors keys = measure(*on, x);
        CAPTURE(queries, keys.ratio());
        CHECK(near(keys, on->bits, queries * dim));
        for (int c = 0; c < dim; ++c)
          for (int t = 0; t < x.rows; ++t) x.value(t, c) = end(t, c) + 0.05f * x.value(t, c);
        std::fill(x.q.begin(), x.q.end(), 0.0f);
        const errors values = measure(*on, x);
        CAPTURE(values.ratio());
        CHECK(near(values, on->bits, queries * dim));
      }
    }
}

/// All of the above.
inline void keeps_all(const candidate& codec) {
  stays_below_the_codecs_error(codec);
  takes_any_shape(codec);
  sums_fit(codec);
  const unsigned seed = fresh_seed();
  CAPTURE(codec.name, seed);
  const auto on = codec.make(dim, dim);
  REQUIRE(on);
  hides_rows(*on, seed);
  adds_biases_and_records_weights(*on, seed);
  merges_parts(codec, *on, seed);
}

}  // namespace promises
