// SPDX-License-Identifier: Apache-2.0
// tersekv/codec/kivi.hpp
//
// kivi<Bits, Group, Window>: keys per channel over Group tokens, values per token over Group channels, the newest
// Window rows in 16 bit.
//
// Paper     Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", ICML 2024, arXiv:2402.02750
// Formula   low = min(x)   step = (max(x) - low) / (2^Bits - 1)   u = round((x - low) / step)   x' = step * u + low
//           over x = k[t0 .. t0 + Group, c] for keys, x = v[t, c0 .. c0 + Group] for values
// Shapes    keys: codes in quads, in layout::rows [rows / Group, dim, Group * Bits / 32] int32 with tokens from the low
//           bits on; step, low [rows / Group, dim] f16     values: as affine<Bits, Group>
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

namespace detail {

/// What the layouts of channel_format share: the tile's sizes, and the numbers of a span's grids.
template <class Grid, int Span, class Codes>
struct channel_planes {
  static_assert(Span > 0 && Span * Grid::bits % 32 == 0,
                "tersekv::kivi: the codes of a group must fill words of 32 bits; take a Group that 32 divides");
  static_assert(Grid::numbers == 2);
  static constexpr int span = Span;

  TERSEKV_HD static constexpr std::size_t steps_at(int rows, int dim) { return Codes::bytes(rows, dim); }
  TERSEKV_HD static constexpr std::size_t lows_at(int rows, int dim) { return steps_at(rows, dim) + plane(rows, dim); }
  void check(int dim) const { require_few("kivi", dim); }
  std::size_t bytes(int rows, int dim) const { return lows_at(rows, dim) + plane(rows, dim); }

  /// Where the numbers of channel `c` of span `s` stand.
  struct place {
    std::size_t step, low;
    TERSEKV_HD place(int rows, int dim, int s, int c)
        : step(steps_at(rows, dim) +
               2 * (static_cast<std::size_t>(s) * static_cast<std::size_t>(dim) + static_cast<std::size_t>(c))),
          low(step + plane(rows, dim)) {}
  };

 protected:
  static constexpr int piece = 64;  // channels at a time
  static constexpr auto size = static_cast<std::size_t>(piece);
  using floats = std::array<float, size>;

  /// Finds and stores the grids of x[span, n] with rows `dim` apart, n <= piece; and as Grid::code wants them.
  static void fit(const float* x, int dim, int n, std::byte* tile, const place& at, float* low, float* inverse) {
    floats smallest, largest;
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
      store_half(tile + at.step + 2 * i, scale.step);
      store_half(tile + at.low + 2 * i, scale.low);
      low[c] = to_float(scale.low);
      inverse[c] = grid::inverse(to_float(scale.step));
    }
  }
  static void load(const std::byte* tile, const place& at, int n, float* step, float* low) {
    std::array<half, size> stored;
    for (int c = 0; c < n; c += piece) {
      const int now = std::min(piece, n - c);
      std::memcpy(stored.data(), tile + at.step + 2 * c, static_cast<std::size_t>(now) * 2);
      widen(stored.data(), now, step + c);
      std::memcpy(stored.data(), tile + at.low + 2 * c, static_cast<std::size_t>(now) * 2);
      widen(stored.data(), now, low + c);
    }
  }

 private:
  TERSEKV_HD static constexpr std::size_t plane(int rows, int dim) {
    return 2 * static_cast<std::size_t>((rows + span - 1) / span) * static_cast<std::size_t>(dim);
  }
};

/// Codes of a span along tokens: [rows / Span, dim, words] uint32.
template <int Bits, int Span>
struct token_words {
  static constexpr int words = Span * Bits / 32;
  TERSEKV_HD static constexpr std::size_t bytes(int rows, int dim) {
    return static_cast<std::size_t>((rows + Span - 1) / Span) * static_cast<std::size_t>(dim * words) * 4;
  }
};

}  // namespace detail

/// Span rows at a time, one grid per channel. Tile: codes; from steps_at on step f16 [rows / Span, dim]; from lows_at
/// on low likewise.
template <class Grid, int Span, class Reopen, class Layout>
struct channel_format : detail::channel_planes<Grid, Span, code_plane<Layout, Grid::bits>> {
  static_assert(Grid::bias_flip == 0);
  using grid = Grid;
  using layout = Layout;
  static constexpr int span = Span;
  static constexpr bool opens = Reopen::opens;
  using place = typename detail::channel_planes<Grid, Span, code_plane<Layout, Grid::bits>>::place;

  void encode(const float* x, int dim, std::byte* tile, int rows, int first, int count) const {
    std::array<float, detail::most_channels> low, inverse;
    std::array<std::uint8_t, detail::most_channels> u;
    for (int r = first; r < first + count; r += span) {
      for (int c = 0; c < dim; c += base::piece)
        base::fit(x + c, dim, std::min(base::piece, dim - c), tile, place(rows, dim, r / span, c), low.data() + c,
                  inverse.data() + c);
      for (int t = 0; t < span; ++t, x += dim) {
        for (int c = 0; c < dim; ++c) {
          const auto i = static_cast<std::size_t>(c);
          u[i] = static_cast<std::uint8_t>(Grid::code(x[c], low[i], inverse[i]));
        }
        codes::store(tile, dim, r + t, u.data());
      }
    }
  }

  void decode(const std::byte* tile, int rows, int first, int count, int dim, float* x) const {
    std::array<float, detail::most_channels> step, low;
    std::array<std::uint8_t, detail::most_channels> u;
    for (int r = first; r < first + count; ++r, x += dim) {
      if (r == first || r % span == 0) base::load(tile, place(rows, dim, r / span, 0), dim, step.data(), low.data());
      codes::load(tile, dim, r, u.data());
      for (int c = 0; c < dim; ++c) {
        const auto i = static_cast<std::size_t>(c);
        x[c] = Grid::value(u[i], step[i], low[i]);
      }
    }
  }
  /// One number, as decode gives it.
  TERSEKV_HD float value(const std::byte* tile, int rows, int dim, int row, int channel) const {
    const place at(rows, dim, row / span, channel);
    return Grid::value(codes::code(tile, dim, row, channel), detail::load_half(tile + at.step),
                       detail::load_half(tile + at.low));
  }

 private:
  using codes = code_plane<Layout, Grid::bits>;
  using base = detail::channel_planes<Grid, Span, codes>;
};

/// Words along tokens, as the paper's kernels read them.
template <class Grid, int Span, class Reopen>
struct channel_format<Grid, Span, Reopen, layout::rows>
    : detail::channel_planes<Grid, Span, detail::token_words<Grid::bits, Span>> {
  using grid = Grid;
  using layout = tersekv::layout::rows;
  static constexpr int span = Span;
  static constexpr bool opens = Reopen::opens;
  static constexpr int words = detail::token_words<Grid::bits, Span>::words;  // of a channel
  using place = typename detail::channel_planes<Grid, Span, detail::token_words<Grid::bits, Span>>::place;

  void encode(const float* x, int dim, std::byte* tile, int rows, int first, int count) const {
    for (int s = first / span; s < (first + count) / span; ++s, x += span * dim)
      for (int c = 0; c < dim; c += base::piece)
        encode_piece(x + c, dim, std::min(base::piece, dim - c), tile, rows, s, c);
  }

  void decode(const std::byte* tile, int rows, int first, int count, int dim, float* x) const {
    for (int r = first; r < first + count;) {
      const int s = r / span, t = r % span, end = std::min(span, t + first + count - r);
      for (int c = 0; c < dim; c += base::piece)
        decode_piece(tile, rows, s, c, std::min(base::piece, dim - c), t, end, dim, x + c);
      x += (end - t) * dim;
      r += end - t;
    }
  }
  /// One number, as decode gives it.
  TERSEKV_HD float value(const std::byte* tile, int rows, int dim, int row, int channel) const {
    const place at(rows, dim, row / span, channel);
    const std::byte* from = tile + words_at(dim, row / span, channel);
    const int bit = row % span * Grid::bits, shift = bit % 32;
    std::uint64_t word = 0;
    std::memcpy(&word, from + bit / 32 * 4, shift + Grid::bits > 32 ? 8 : 4);
    return Grid::value(static_cast<std::uint32_t>(word >> shift) & Grid::top, detail::load_half(tile + at.step),
                       detail::load_half(tile + at.low));
  }
  /// Where the words of channel `c` of span `s` begin.
  TERSEKV_HD static std::size_t words_at(int dim, int s, int c) {
    return codes::bytes(s * span, dim) + 4 * static_cast<std::size_t>(c * words);
  }

 private:
  using codes = detail::token_words<Grid::bits, Span>;
  using base = detail::channel_planes<Grid, Span, codes>;
  using floats = typename base::floats;
  static constexpr auto size = base::size;

  /// x[span, n] with rows `dim` apart: channels c0 .. c0 + n of span `s`.
  static void encode_piece(const float* x, int dim, int n, std::byte* tile, int rows, int s, int c0) {
    floats low, inverse;
    base::fit(x, dim, n, tile, place(rows, dim, s, c0), low.data(), inverse.data());
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
    std::byte* to = tile + words_at(dim, s, c0);
    for (std::size_t c = 0; c < static_cast<std::size_t>(n); ++c)
      for (std::size_t w = 0; w < words; ++w, to += 4) std::memcpy(to, &packed[w][c], 4);
  }

  /// Rows first .. last of span `s`, channels c0 .. c0 + n, to x[last - first, n] with rows `dim` apart.
  static void decode_piece(const std::byte* tile, int rows, int s, int c0, int n, int first, int last, int dim,
                           float* x) {
    floats step, low;
    base::load(tile, place(rows, dim, s, c0), n, step.data(), low.data());
    std::array<std::array<std::uint32_t, size>, words + 1> packed;
    const int first_word = first * Grid::bits / 32, last_word = (last * Grid::bits + 31) / 32;
    const std::byte* from = tile + words_at(dim, s, c0);
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

template <int Bits, int Group = 32, int Window = 128, class Reopen = reopened, class Layout = layout::quads>
struct kivi {
  static_assert(Bits == 2 || Bits == 3 || Bits == 4 || Bits == 8, "tersekv::kivi: 2, 3, 4 or 8 bits");
  static_assert(Window >= 0, "tersekv::kivi: the window has a number of rows");
  using role = tersekv::role::codec;
  using key_format = channel_format<grid::affine<Bits>, Group, Reopen, typename Layout::keys>;
  using value_format = grouped_format<grid::affine<Bits>, Group, Reopen, typename Layout::values>;
  using provides = tersekv::codec_facts<key_format, value_format, Window>;
  static constexpr std::string_view name = Reopen::opens ? "kivi" : "kivi_sealed";
  static constexpr std::array<int, 3> structure = {Bits, Group, Window};
  static constexpr int window = Window, sinks = 0;
  key_format for_keys() const { return {}; }
  value_format for_values() const { return value_format("kivi"); }
};

}  // namespace tersekv
