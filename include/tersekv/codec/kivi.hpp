// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/kivi.hpp
//
// kivi<Bits, Group, Window>: keys per channel over Group tokens, values per token over Group channels, the newest
// Window rows in 16 bit.
//
// Paper     Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", ICML 2024, arXiv:2402.02750
// Formula   low = min(x)   step = (max(x) - low) / (2^Bits - 1)   u = round((x - low) / step)   x' = step * u + low
//           over x = k[t0 .. t0 + Group, c] for keys, x = v[t, c0 .. c0 + Group] for values
// Shapes    keys: codes [rows / Group, dim, Group * Bits / 32] int32, tokens from the low bits on; step, low
//           [rows / Group, dim] f16     values: codes [rows, dim * Bits / 32]; step, low [rows, dim / Group] f16
// Differs   keys and values share one window of Window .. Window + Group - 1 rows, from which the oldest Group rows are
//           packed at a time; the paper lets the key window grow to Window and then empties it, and keeps exactly
//           Window values. low is rounded down and step up to 16 bit before codes are found, so that no number is
//           clipped
// Cost      Bits + 32 / Group bits per packed number, 16 per number of the window: 3.0 at 2 bits in groups of 32
// Needs     a value dimension that is a multiple of Group, or smaller
// With      eviction: rows leave the window for good, and packed groups are opened only where two half-empty pages are
//           joined (reopened, the default) or never (sealed); |x - x'| <= step / 2 per packing
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/grouped.hpp>

namespace tersekv {

/// Span rows at a time, one grid per channel.
template <class Grid, int Span, class Reopen, class Layout>
struct channel_format;

/// Tile: planes codes [rows / Span, dim, words] uint32, step [rows / Span, dim] f16, low likewise.
template <class Grid, int Span, class Reopen>
struct channel_format<Grid, Span, Reopen, layout::rows> {
  static_assert(Span > 0 && Span * Grid::bits % 32 == 0,
                "tersekv::kivi: the codes of a group must fill words of 32 bits; take a Group that 32 divides");
  static_assert(Grid::numbers == 2);
  static constexpr int span = Span;
  static constexpr bool opens = Reopen::opens;
  static constexpr int words = Span * Grid::bits / 32;

  void check(int) const {}
  std::size_t bytes(int rows, int dim) const { return channels((rows + span - 1) / span, dim) * (4 * words + 4); }

  void encode(const float* x, int dim, std::byte* tile, int rows, int first, int count) const {
    for (int s = first / span; s < (first + count) / span; ++s, x += span * dim) {
      const place at(tile, rows, dim, s);
      for (int c = 0; c < dim; c += piece) encode_piece(x + c, dim, std::min(piece, dim - c), at, c);
    }
  }

  void decode(const std::byte* tile, int rows, int first, int count, int dim, float* x) const {
    for (int r = first; r < first + count;) {
      const int s = r / span, t = r % span, end = std::min(span, t + first + count - r);
      const place at(const_cast<std::byte*>(tile), rows, dim, s);  // only read
      for (int c = 0; c < dim; c += piece) decode_piece(at, c, std::min(piece, dim - c), t, end, dim, x + c);
      x += (end - t) * dim;
      r += end - t;
    }
  }

 private:
  static constexpr int piece = 64;  // channels at a time
  static constexpr auto size = static_cast<std::size_t>(piece);
  using floats = std::array<float, size>;
  static std::size_t channels(int n, int dim) { return static_cast<std::size_t>(n) * static_cast<std::size_t>(dim); }

  /// Where the three planes of a span begin.
  struct place {
    std::byte *codes, *step, *low;
    place(std::byte* tile, int rows, int dim, int s)
        : codes(tile + channels(s, dim) * 4 * words),
          step(tile + channels((rows + span - 1) / span, dim) * 4 * words + channels(s, dim) * 2),
          low(step + channels((rows + span - 1) / span, dim) * 2) {}
  };

  /// x[span, n] with rows `dim` apart.
  static void encode_piece(const float* x, int dim, int n, const place& at, int c0) {
    floats smallest, largest, low, inverse;
    std::copy_n(x, n, smallest.data());
    std::copy_n(x, n, largest.data());
    for (int t = 1; t < span; ++t) {
      const float* row = x + t * dim;
      for (int c = 0; c < n; ++c) {
        const auto i = static_cast<std::size_t>(c);
        smallest[i] = row[c] < smallest[i] ? row[c] : smallest[i];
        largest[i] = row[c] > largest[i] ? row[c] : largest[i];
      }
    }
    for (int c = 0; c < n; ++c) {
      const auto i = static_cast<std::size_t>(c);
      const grid::scale scale = Grid::fit(smallest[i], largest[i]);
      detail::store_half(at.step + 2 * (c0 + c), scale.step);
      detail::store_half(at.low + 2 * (c0 + c), scale.low);
      low[i] = to_float(scale.low);
      inverse[i] = grid::inverse(to_float(scale.step));
    }
    std::array<std::array<std::uint32_t, size>, words> packed{};
    for (int t = 0; t < span; ++t) {
      const float* row = x + t * dim;
      const int bit = t * Grid::bits, shift = bit % 32;
      auto& word = packed[static_cast<std::size_t>(bit / 32)];
      for (int c = 0; c < n; ++c) {
        const auto i = static_cast<std::size_t>(c);
        word[i] |= Grid::code(row[c], low[i], inverse[i]) << shift;
      }
      if (shift + Grid::bits > 32) {  // 3 bits: the code goes on in the next word
        auto& next = packed[static_cast<std::size_t>(bit / 32 + 1)];
        for (int c = 0; c < n; ++c) {
          const auto i = static_cast<std::size_t>(c);
          next[i] |= Grid::code(row[c], low[i], inverse[i]) >> (32 - shift);
        }
      }
    }
    std::byte* to = at.codes + channels(c0, words) * 4;
    for (std::size_t c = 0; c < static_cast<std::size_t>(n); ++c)
      for (std::size_t w = 0; w < words; ++w, to += 4) std::memcpy(to, &packed[w][c], 4);
  }

  /// Rows first .. last of the span, channels c0 .. c0 + n, to x[last - first, n] with rows `dim` apart.
  static void decode_piece(const place& at, int c0, int n, int first, int last, int dim, float* x) {
    std::array<half, size> stored;
    floats step, low;
    std::memcpy(stored.data(), at.step + 2 * c0, static_cast<std::size_t>(n) * 2);
    widen(stored.data(), n, step.data());
    std::memcpy(stored.data(), at.low + 2 * c0, static_cast<std::size_t>(n) * 2);
    widen(stored.data(), n, low.data());
    std::array<std::array<std::uint32_t, size>, words + 1> packed;
    const int first_word = first * Grid::bits / 32, last_word = (last * Grid::bits + 31) / 32;
    const std::byte* from = at.codes + channels(c0, words) * 4;
    for (std::size_t c = 0; c < static_cast<std::size_t>(n); ++c)
      for (int w = first_word; w < last_word; ++w)
        std::memcpy(&packed[static_cast<std::size_t>(w)][c], from + (c * words + static_cast<std::size_t>(w)) * 4, 4);
    constexpr std::uint32_t mask = Grid::top;
    for (int t = first; t < last; ++t, x += dim) {
      const int bit = t * Grid::bits, shift = bit % 32;
      const auto& word = packed[static_cast<std::size_t>(bit / 32)];
      if (shift + Grid::bits > 32) {
        const auto& next = packed[static_cast<std::size_t>(bit / 32 + 1)];
        for (int c = 0; c < n; ++c) {
          const auto i = static_cast<std::size_t>(c);
          x[c] = Grid::value((word[i] >> shift | next[i] << (32 - shift)) & mask, step[i], low[i]);
        }
      } else {
        for (int c = 0; c < n; ++c) {
          const auto i = static_cast<std::size_t>(c);
          x[c] = Grid::value(word[i] >> shift & mask, step[i], low[i]);
        }
      }
    }
  }
};

template <int Bits, int Group = 32, int Window = 128, class Reopen = reopened, class Layout = layout::rows>
struct kivi {
  static_assert(Bits == 2 || Bits == 3 || Bits == 4 || Bits == 8, "tersekv::kivi: 2, 3, 4 or 8 bits");
  static_assert(Window >= 0, "tersekv::kivi: the window has a number of rows");
  using role = tersekv::role::codec;
  using key_format = channel_format<grid::affine<Bits>, Group, Reopen, Layout>;
  using value_format = grouped_format<grid::affine<Bits>, Group, Reopen, Layout>;
  using provides = tersekv::codec_facts<key_format, value_format, Window>;
  static constexpr std::string_view name = Reopen::opens ? "kivi" : "kivi_sealed";
  static constexpr std::array<int, 3> structure = {Bits, Group, Window};
  static constexpr int window = Window, sinks = 0;
  key_format for_keys() const { return {}; }
  value_format for_values() const { return value_format("kivi"); }
};

}  // namespace tersekv
