// SPDX-License-Identifier: Apache-2.0
// What every format of keys or values keeps, whatever it stores: bytes, ranges, splits, moves, and its own error bound.
// A test states the bound as bound(x, dim, r, c): the largest error allowed to number c of row r, from x [rows, dim].
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <tersekv/policy.hpp>

#include "catch.hpp"

namespace laws {

namespace kv = tersekv;
using bytes = std::vector<std::byte>;

inline std::size_t size(int rows, int dim) { return static_cast<std::size_t>(rows) * static_cast<std::size_t>(dim); }

struct sample {
  std::string name;
  std::vector<float> x;  // [rows, dim]
};

inline std::vector<float> fill(int rows, int dim, auto&& number) {
  std::vector<float> x(size(rows, dim));
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < dim; ++c) x[size(r, dim) + static_cast<std::size_t>(c)] = number(r, c);
  return x;
}
inline std::vector<float> gaussian(int rows, int dim, unsigned seed = 7, float sigma = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw(0, sigma);
  return fill(rows, dim, [&](int, int) { return draw(engine); });
}

/// Rows that formats must survive with their error bound.
inline std::vector<sample> samples(int rows, int dim) {
  std::mt19937 engine(11);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
  std::vector<sample> out;
  const auto add = [&](const char* name, auto number) { out.push_back({name, fill(rows, dim, number)}); };
  add("normal", [&](int, int) { return normal(engine); });
  add("heavy tails",
      [&](int, int) { return std::tan(3.0f * (uniform(engine) - 0.5f)) * std::exp(2 * normal(engine)); });
  add("all zero", [](int, int) { return 0.0f; });
  add("constant", [](int, int) { return -0.75f; });
  add("constant, not a half", [](int, int) { return 0.1f; });
  add("a constant per row", [](int r, int) { return static_cast<float>(r) - 3.5f; });
  add("a constant per channel", [](int, int c) { return 2.0f - static_cast<float>(c); });
  add("one spike", [&](int r, int c) { return r == 5 && c == dim / 2 ? 40.0f : 0.01f * normal(engine); });
  add("far from zero", [&](int, int) { return 1000.0f + normal(engine); });
  add("far below zero", [&](int, int) { return -1000.0f + 0.01f * normal(engine); });
  add("largest halves", [](int r, int c) { return (r + c) % 2 == 0 ? 65504.0f : -65504.0f; });
  add("subnormal", [&](int, int) { return 1e-6f * normal(engine); });
  add("below the smallest half", [&](int, int) { return 1e-12f * normal(engine); });
  add("subnormal floats", [&](int, int) { return 1e-41f * normal(engine); });
  return out;
}

/// Bounds of the grids of codec/grid.hpp, from the group's ends: half a step, where the step may be rounded up and the
/// minimum down to 16 bit, and float rounding.
inline double affine_bound(double smallest, double largest, int bits) {
  const double ends = std::max(std::abs(smallest), std::abs(largest)), smallest_half = std::ldexp(1.0, -24);
  if (smallest == largest) return ends == 0 ? 0 : std::ldexp(ends, -11) + smallest_half / 2;  // one rounding
  const double low = std::ldexp(std::abs(smallest), -10) + smallest_half;
  const double step = (largest - smallest + low) / ((1 << bits) - 1) * (1 + std::ldexp(1.0, -10)) + smallest_half;
  return step / 2 + std::ldexp(ends, -21);
}
inline double symmetric_bound(double magnitude, int bits) {
  const double step = magnitude / ((1 << (bits - 1)) - 1) * (1 + std::ldexp(1.0, -10)) + std::ldexp(1.0, -24);
  return magnitude == 0 ? 0 : step / 2 + std::ldexp(magnitude, -21);
}
/// Ends of x over rows r0 .. r1 and channels c0 .. c1.
inline std::pair<double, double> ends(const std::vector<float>& x, int dim, int r0, int r1, int c0, int c1) {
  double low = 1e300, high = -1e300;
  for (int r = r0; r < r1; ++r)
    for (int c = c0; c < c1; ++c) {
      const auto v = static_cast<double>(x[size(r, dim) + static_cast<std::size_t>(c)]);
      low = std::min(low, v), high = std::max(high, v);
    }
  return {low, high};
}
/// Of a format that groups `group` channels of one row (0 or too many = all of them).
inline auto affine_rows(int bits, int group) {
  return [=](const std::vector<float>& x, int dim, int r, int c) {
    const int g = group == 0 || group > dim ? dim : group, first = c / g * g;
    const auto [low, high] = ends(x, dim, r, r + 1, first, first + g);
    return affine_bound(low, high, bits);
  };
}
inline auto symmetric_rows(int bits, int group) {
  return [=](const std::vector<float>& x, int dim, int r, int c) {
    const int g = group == 0 || group > dim ? dim : group, first = c / g * g;
    const auto [low, high] = ends(x, dim, r, r + 1, first, first + g);
    return symmetric_bound(std::max(high, -low), bits);
  };
}
/// Of a format that groups `group` rows of one channel.
inline auto affine_channels(int bits, int group) {
  return [=](const std::vector<float>& x, int dim, int r, int c) {
    const auto [low, high] = ends(x, dim, r / group * group, r / group * group + group, c, c + 1);
    return affine_bound(low, high, bits);
  };
}

template <class Format>
bytes encoded(const Format& f, const std::vector<float>& x, int dim, int rows, std::byte old = std::byte{0}) {
  bytes tile(f.bytes(rows, dim), old);
  f.encode(x.data(), dim, tile.data(), rows, 0, rows);
  return tile;
}
template <class Format>
std::vector<float> decoded(const Format& f, const bytes& tile, int dim, int rows) {
  std::vector<float> x(size(rows, dim));
  f.decode(tile.data(), rows, 0, rows, dim, x.data());
  return x;
}
template <class Format>
std::vector<float> round_trip(const Format& f, const std::vector<float>& x, int dim) {
  const int rows = static_cast<int>(x.size()) / dim;
  return decoded(f, encoded(f, x, dim, rows), dim, rows);
}
template <class Format>
double bits_per_number(const Format& f, int rows, int dim) {
  return 8.0 * static_cast<double>(f.bytes(rows, dim)) / static_cast<double>(size(rows, dim));
}
/// ||x - x'||^2 / ||x||^2
inline double squared_error(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto a = static_cast<double>(x[i]), d = static_cast<double>(y[i]) - a;
    error += d * d, norm += a * a;
  }
  return error / norm;
}
/// The same for 2^18 normal numbers.
template <class Format>
double gaussian_error(const Format& f, int dim = 128) {
  const auto x = gaussian((1 << 18) / dim, dim);
  return squared_error(x, round_trip(f, x, dim));
}

template <class Format, class Bound>
void stays_within_its_bound(const Format& f, int dim, Bound bound, int ragged = 0) {
  const int rows = ragged > 0 ? ragged : std::max(32, 2 * Format::span);
  for (const sample& s : samples(rows, dim)) {
    const auto y = round_trip(f, s.x, dim);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < dim; ++c) {
        const std::size_t i = size(r, dim) + static_cast<std::size_t>(c);
        const double error = std::abs(static_cast<double>(s.x[i]) - static_cast<double>(y[i]));
        if (!(error <= bound(s.x, dim, r, c))) {  // NaN fails too
          CAPTURE(s.name, dim, r, c, s.x[i], y[i], error, bound(s.x, dim, r, c));
          FAIL("beyond the bound");
        }
      }
  }
}

/// Pages have a multiple of 32 rows. In a tile of `ragged` rows instead, room that no row fills keeps what it held.
template <class Format>
void keeps_its_storage_laws(const Format& f, int dim, int ragged = 0) {
  constexpr int span = Format::span;
  const int rows = ragged > 0 ? ragged : 4 * std::max(8, span);
  const auto x = gaussian(rows, dim, 3);
  const bytes whole = encoded(f, x, dim, rows);
  const auto y = decoded(f, whole, dim, rows);
  CAPTURE(dim, rows);

  // Encoding writes every byte of the tile, reads none, and leaves what is behind it alone.
  const auto same = [&](const bytes& tile) {
    return ragged > 0 ? decoded(f, tile, dim, rows) == y : std::equal(whole.begin(), whole.end(), tile.begin());
  };
  CHECK(same(encoded(f, x, dim, rows, std::byte{0xff})));
  bytes guarded(whole.size() + 64, std::byte{0x5a});
  f.encode(x.data(), dim, guarded.data(), rows, 0, rows);
  CHECK(same(guarded));
  CHECK(std::all_of(guarded.end() - 64, guarded.end(), [](std::byte b) { return b == std::byte{0x5a}; }));

  // Spans in any split and order are the bulk.
  std::mt19937 engine(5);
  for (int round = 0; round < 4; ++round) {
    bytes parts(whole.size(), std::byte{0xc3});
    std::vector<std::pair<int, int>> ranges;
    for (int first = 0; first < rows;) {
      const int count = span * (1 + static_cast<int>(engine() % 3)), last = std::min(rows, first + count);
      ranges.emplace_back(first, last - first);
      first = last;
    }
    std::shuffle(ranges.begin(), ranges.end(), engine);
    for (const auto& [first, count] : ranges) {
      f.encode(x.data() + size(first, dim), dim, parts.data(), rows, first, count);
      f.encode(x.data(), dim, parts.data(), rows, first, 0);  // no rows: nothing
    }
    CHECK(same(parts));
  }

  // Any range decodes to that range of the whole, and writes nothing else.
  for (int round = 0; round < 40; ++round) {
    const int first = static_cast<int>(engine() % static_cast<unsigned>(rows));
    const int count = static_cast<int>(engine() % static_cast<unsigned>(rows - first + 1));
    std::vector<float> part(size(count + 1, dim), 12345.0f);
    f.decode(whole.data(), rows, first, count, dim, part.data());
    CHECK(std::equal(part.begin(), part.end() - dim, y.begin() + static_cast<std::ptrdiff_t>(size(first, dim))));
    CHECK(std::all_of(part.end() - dim, part.end(), [](float v) { return v == 12345.0f; }));
  }

  // One number at a time is what kernels of other backends read.
  if constexpr (requires { f.value(whole.data(), rows, dim, 0, 0); })
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < dim; ++c)
        REQUIRE(f.value(whole.data(), rows, dim, r, c) == y[size(r, dim) + static_cast<std::size_t>(c)]);

  // A moved row keeps its bits and decodes to the same numbers; the others stay.
  if constexpr (span == 1) {
    const auto z = gaussian(rows, dim, 4);
    bytes to = encoded(f, z, dim, rows);
    f.move(to.data(), 3, whole.data(), rows - 1, rows, dim);
    auto moved = z;
    std::copy_n(x.end() - dim, dim, moved.begin() + 3 * dim);
    CHECK(to == encoded(f, moved, dim, rows));
  }

  // One span in a tile of its own decodes to the same numbers.
  const std::vector<float> one(x.begin() + 2 * span * dim, x.begin() + 3 * span * dim);
  const auto alone = round_trip(f, one, dim);
  CHECK(std::equal(alone.begin(), alone.end(), y.begin() + 2 * span * dim));

  // Numbers far outside 16 bit come back finite.
  for (const float large : {1e6f, 1e30f, 3e38f}) {
    auto huge = x;
    for (std::size_t i = 0; i < huge.size(); i += 3) huge[i] = i % 2 == 0 ? large : -large;
    for (const float v : round_trip(f, huge, dim)) REQUIRE(std::isfinite(v));
    for (float& v : huge) v = large;
    for (const float v : round_trip(f, huge, dim)) REQUIRE(std::isfinite(v));
  }
}

/// Keys and values of a codec, in whole pages and in tiles of another length.
template <class Codec, class KeyBound, class ValueBound>
void packs_well(const Codec& codec, int dim, KeyBound key_bound, ValueBound value_bound) {
  const auto half = [&](const auto& f, auto bound) {
    constexpr int span = std::remove_cvref_t<decltype(f)>::span;
    for (const int ragged : {0, 5 * span}) {
      stays_within_its_bound(f, dim, bound, ragged);
      keeps_its_storage_laws(f, dim, ragged);
    }
  };
  half(codec.for_keys(), key_bound);
  half(codec.for_values(), value_bound);
}
template <class Codec, class Bound>
void packs_well(const Codec& codec, int dim, Bound bound) {
  packs_well(codec, dim, bound, bound);
}

}  // namespace laws
