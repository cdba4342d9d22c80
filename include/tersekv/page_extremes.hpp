// SPDX-License-Identifier: Apache-2.0
// The extremes of the keys of every page of a head, in 8 bits and next to each other. Whoever bounds all pages of a
// head reads half of what their summaries hold, one after the other, and only those summaries whose pages are too near
// to each other to tell.
//
// Read before: codec/affine.hpp, read/quest.hpp.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include <tersekv/codec/affine.hpp>
#include <tersekv/pool.hpp>

namespace tersekv {

/// Reads pages by bounds of the form sum_d max(q_d least_d, q_d most_d):
///   void extremes(summary, key_dim, least[key_dim], most[key_dim])     what the summary holds; may be infinite
template <class Read>
concept bounded_by_extremes = requires(const Read read, const std::byte* summary, float* x, int n) {
  read.extremes(summary, n, x, x);
};

/// Pages are rows of packed keys, 32 to a tile: maxima and minima, less those of the page that came first, and soon
/// less the means of the first tile, so that what channels have in common all along costs no precision. The bound of q
/// is
///   <positive part of q, most + origin of most> + <negative part of q, least + origin of least>,
/// off by at most |q| (error + r spread) where the parts are rounded to within r |q| before they meet most and least.
class page_extremes {
 public:
  using format = affine<8, 32>::key_format;
  static constexpr int pages = 32;       // of a tile
  static constexpr int most_dim = 1024;  // of a key
  static inline const format packed{};

  explicit page_extremes(pool& owner) : bytes_(owner) {}

  /// Of a row: key_dim, and what fills the last group.
  static int dim(int key_dim) { return detail::round_up_to(key_dim, format::group_size); }
  static std::size_t part_bytes(int key_dim) { return packed.bytes(pages, dim(key_dim)); }
  static std::size_t tile_bytes(int key_dim) { return 2 * part_bytes(key_dim) + 2 * sizeof(float) * pages; }

  /// [dim] of the maxima, [dim] of the minima.
  const half* origin() const { return reinterpret_cast<const half*>(bytes_.data()); }
  /// Of tile t: where its maxima and its minima begin; error and spread of its pages, [32] each.
  const std::byte* most(int t, int key_dim) const { return bytes_.data() + tile_at(t, key_dim); }
  const std::byte* least(int t, int key_dim) const { return most(t, key_dim) + part_bytes(key_dim); }
  const float* error(int t, int key_dim) const {
    return reinterpret_cast<const float*>(least(t, key_dim) + part_bytes(key_dim));
  }
  const float* spread(int t, int key_dim) const { return error(t, key_dim) + pages; }

  std::size_t held() const { return bytes_.held(); }

  /// Room for n pages. May throw.
  void reserve(int n, int key_dim) {
    if (n <= 0) return;
    const int tiles = tiles_of(n);
    if (bytes_.capacity() < tile_at(tiles, key_dim)) bytes_.reserve(tile_at(tiles + tiles / 16, key_dim));
  }
  /// Page p becomes what `summary` holds. Needs room.
  template <bounded_by_extremes Read>
  void set(const Read& read, int p, const std::byte* summary, int key_dim) noexcept {
    row part[2], stored[2];  // most, least
    read.extremes(summary, key_dim, part[1].data(), part[0].data());
    const bool bounded = std::all_of(part, part + 2, [&](const row& x) {
      return std::all_of(x.begin(), x.begin() + key_dim, [](float y) { return std::abs(y) < infinity; });
    });
    const int n = dim(key_dim);
    for (row& x : part) {
      if (!bounded) std::fill_n(x.data(), key_dim, 0.0f);
      std::fill(x.data() + key_dim, x.data() + n, x[at(key_dim - 1)]);
    }
    if (bytes_.size() == 0) {
      bytes_.resize(tile_at(0, key_dim));
      for (int i = 0; i < 2; ++i) set_origin(i, part[i], n);
    }
    grow(tile_at(tiles_of(p + 1), key_dim));
    float size = 0;
    for (int i = 0; i < 2; ++i) {
      for (int c = 0; c < n; ++c) {
        const float from = to_float(origin()[i * n + c]);
        size += part[i][at(c)] * part[i][at(c)] + from * from;
        part[i][at(c)] -= from;
      }
      std::byte* to = tile(p, key_dim) + at(i) * part_bytes(key_dim);
      packed.encode(part[i].data(), n, to, pages, p % pages, 1);
      packed.decode(to, pages, p % pages, 1, n, stored[i].data());
    }
    constexpr float sums = 1e-5f;  // what sums of floats are off by
    const auto [error, spread] = distances(part, stored, n);
    const float off = error + sums * std::sqrt(size);
    set_numbers(p, key_dim, bounded && off < infinity ? off : std::numeric_limits<float>::max(), spread);
  }
  /// Once the first tile is full, and no other has begun: the means of its pages become the origin. summary(p): of page
  /// p.
  template <bounded_by_extremes Read, class Summary>
  void centre(const Read& read, Summary&& summary, int key_dim) noexcept {
    if (bytes_.size() != tile_at(1, key_dim)) return;
    const int n = dim(key_dim);
    for (int i = 0; i < 2; ++i) {
      row mean{}, x;
      for (int p = 0; p < pages; ++p) {
        packed.decode(tile(p, key_dim) + at(i) * part_bytes(key_dim), pages, p, 1, n, x.data());
        for (int c = 0; c < n; ++c) mean[at(c)] += x[at(c)] / pages;
      }
      for (int c = 0; c < n; ++c) mean[at(c)] += to_float(origin()[i * n + c]);
      set_origin(i, mean, n);
    }
    for (int p = 0; p < pages; ++p) set(read, p, summary(p), key_dim);
  }
  /// Pages first .. first + count of n leave; those behind them move up.
  void erase(int first, int count, int n, int key_dim) noexcept {
    for (int p = first; p + count < n; ++p) {
      const int from = p + count;
      if (tile_at(tiles_of(from + 1), key_dim) > bytes_.size()) break;
      for (int i = 0; i < 2; ++i)
        packed.move(tile(p, key_dim) + at(i) * part_bytes(key_dim), p % pages,
                    tile(from, key_dim) + at(i) * part_bytes(key_dim), from % pages, pages, dim(key_dim));
      set_numbers(p, key_dim, error(from / pages, key_dim)[from % pages], spread(from / pages, key_dim)[from % pages]);
    }
    bytes_.resize(n == count ? 0 : std::min(bytes_.size(), tile_at(tiles_of(n - count), key_dim)));
  }
  /// Gives back room that is not used: all of it, or, while pages come and go, what is more than half.
  void fit(bool all) noexcept {
    if (all || (bytes_.size() > 0 && bytes_.capacity() > 2 * bytes_.size())) bytes_.fit(bytes_.size());
  }

 private:
  using row = std::array<float, most_dim>;
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  static int tiles_of(int n) { return (n + pages - 1) / pages; }
  static std::size_t tile_at(int t, int key_dim) {
    return 2 * sizeof(half) * at(dim(key_dim)) + at(t) * tile_bytes(key_dim);
  }
  std::byte* tile(int p, int key_dim) { return bytes_.data() + tile_at(p / pages, key_dim); }

  void set_origin(int part, const row& x, int n) noexcept {
    half* to = reinterpret_cast<half*>(bytes_.data()) + part * n;
    for (int c = 0; c < n; ++c) to[c] = from_float<half>(x[at(c)]);
  }
  void grow(std::size_t wanted) noexcept {
    const std::size_t had = bytes_.size();
    if (had >= wanted) return;
    bytes_.resize(wanted);
    std::memset(bytes_.data() + had, 0, wanted - had);  // kernels read whole tiles
  }
  void set_numbers(int p, int key_dim, float error, float spread) noexcept {
    std::byte* to = tile(p, key_dim) + 2 * part_bytes(key_dim) + at(p % pages) * sizeof(float);
    std::memcpy(to, &error, sizeof(float));
    std::memcpy(to + pages * sizeof(float), &spread, sizeof(float));
  }
  struct numbers {
    float error, spread;
  };
  /// error: of the numbers as they are stored, per channel that of the part which is farther off. spread: of all
  /// numbers from the smallest of their group.
  static numbers distances(const row (&part)[2], const row (&stored)[2], int n) noexcept {
    float error = 0, spread = 0;
    for (int g = 0; g < n; g += format::group_size) {
      float off[format::group_size] = {};
      for (int i = 0; i < 2; ++i) {
        const float *x = part[i].data() + g, *y = stored[i].data() + g;
        const float low = *std::min_element(y, y + format::group_size);
        for (int c = 0; c < format::group_size; ++c) {
          off[c] = std::max(off[c], std::abs(x[c] - y[c]));
          spread += (y[c] - low) * (y[c] - low);
        }
      }
      for (const float x : off) error += x * x;
    }
    return {std::sqrt(error), std::sqrt(spread)};
  }

  buffer<std::byte> bytes_;  // origin [2, dim] f16, then [tiles, tile_bytes]
};

}  // namespace tersekv
