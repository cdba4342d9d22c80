// SPDX-License-Identifier: Apache-2.0
// Template arguments that formats share: how the packed bytes of a tile lie, and whether packed groups are reopened.
//
//   layout::rows    codes of one row after each other, a little-endian bit stream; metadata [rows, groups]. The
//                   reference, and what other programs exchange
//   layout::quads   what the processor's kernels read: blocks of 16 lanes; a lane's codes go to the 32-bit words that
//                   stand in its column, four to a word (or eight, sixteen: one for each field of its bytes), so that a
//                   vector of words holds one field of every lane and no sum crosses lanes. Metadata [groups, rows]
//                     keys     lanes are rows, fields run over channels (token_quads)
//                     values   lanes are channels, fields run over 32 rows (channel_quads)
//                   Codes of 3, 5, 6 and 7 bits are split into planes of 4, 2 and 1 bits, each written in this way
//
// A format is written once: where a code lies is known to code_plane, where a scale lies to number_at.
#pragma once
#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <tersekv/config.hpp>
#include <tersekv/detail/pack.hpp>

namespace tersekv {

namespace layout {
struct rows {
  using keys = rows;
  using values = rows;
};
struct token_quads {};
struct channel_quads {};
struct quads {
  using keys = token_quads;
  using values = channel_quads;
};
}  // namespace layout

/// Packed groups of rows may be decoded and written again, so that single rows may leave. Every rewriting rounds anew;
/// the container does it only where two pages of a head fit into one.
struct reopened {
  static constexpr bool opens = true;
};
/// What is packed is never written again: rows leave by page, in order of position.
struct sealed {
  static constexpr bool opens = false;
};

static_assert(std::endian::native == std::endian::little, "tersekv: packed rows are little-endian");

namespace detail {

inline constexpr int block_lanes = 16;  // lanes of a block of quads
inline constexpr int value_rows = 32;   // rows that one block of values holds

TERSEKV_HD constexpr int round_up_to(int n, int unit) { return (n + unit - 1) / unit * unit; }

/// Blocks of `depth` codes in each of 16 lanes. Planes of 8, 4, 2 and 1 bits follow each other inside a block; plane w
/// holds units of 64 bytes, a unit 8 / w quads of codes.
template <int Bits>
struct quad_block {
  /// Width of the plane that holds bit `low` and those above it; 0 behind the last plane.
  TERSEKV_HD static constexpr int width(int low) {
    const int left = Bits - low;
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : left;
  }
  TERSEKV_HD static constexpr int narrowest() {
    int w = 8;
    for (int low = 0; low < Bits; low += width(low)) w = width(low);
    return w;
  }
  static constexpr int depth_unit = std::max(8, 32 / narrowest());  // a block's depth is a multiple of it
  TERSEKV_HD static constexpr std::size_t bytes(int depth) { return static_cast<std::size_t>(depth) * 2 * Bits; }
  /// Where the plane begins that holds bit `low`.
  TERSEKV_HD static constexpr std::size_t plane(int low, int depth) {
    return static_cast<std::size_t>(depth) * 2 * static_cast<std::size_t>(low);
  }

  /// The lowest Width bits of each byte of a word.
  template <int Width>
  static constexpr std::uint32_t mask = ((1u << Width) - 1) * 0x01010101u;

  /// visit.operator()<low, width>(), for every plane, the one of the lowest bits first.
  template <int Low = 0, class Visit>
  static constexpr void each_plane(Visit&& visit) {
    if constexpr (Low < Bits) {
      visit.template operator()<Low, width(Low)>();
      each_plane<Low + width(Low)>(visit);
    }
  }
};

/// Code `i` of a lane, whose words begin at `lane`, in a block of `depth` codes.
template <int Bits, int Low = 0>
TERSEKV_HD std::uint32_t code_in_block(const std::byte* lane, int depth, int i) {
  if constexpr (Low >= Bits) {
    return 0;
  } else {
    constexpr int width = quad_block<Bits>::width(Low), per = 32 / width;  // codes of a word
    std::uint32_t byte = static_cast<std::uint32_t>(
        lane[quad_block<Bits>::plane(Low, depth) + static_cast<std::size_t>(i / per * 4 * block_lanes + i % 4)]);
    byte = byte >> (i % per / 4 * width) & ((1u << width) - 1);
    return byte << Low | code_in_block<Bits, Low + width>(lane, depth, i);
  }
}

}  // namespace detail

/// The codes of a tile: bytes(rows, dim); store and load one row, codes[dim] of Bits bits each; one code.
template <class Layout, int Bits>
struct code_plane;

template <int Bits>
struct code_plane<layout::rows, Bits> {
  TERSEKV_HD static constexpr std::size_t bytes(int rows, int dim) {
    return static_cast<std::size_t>(rows) * detail::packed_bytes(dim, Bits);
  }
  static void store(std::byte* plane, int dim, int row, const std::uint8_t* codes) {
    detail::pack_codes<Bits>(codes, dim, plane + bytes(row, dim));
  }
  static void load(const std::byte* plane, int dim, int row, std::uint8_t* codes) {
    detail::unpack_codes<Bits>(plane + bytes(row, dim), dim, codes);
  }
  /// Row `from_row` of one plane becomes row `to_row` of another.
  static void move(std::byte* to, int to_row, const std::byte* from, int from_row, int dim) {
    std::memmove(to + bytes(to_row, dim), from + bytes(from_row, dim), bytes(1, dim));
  }
  TERSEKV_HD static std::uint32_t code(const std::byte* plane, int dim, int row, int channel) {
    const std::byte* from = plane + bytes(row, dim) + channel * Bits / 8;
    const int shift = channel * Bits % 8;
    auto bits = static_cast<std::uint32_t>(from[0]);
    if (shift + Bits > 8) bits |= static_cast<std::uint32_t>(from[1]) << 8;
    return bits >> shift & ((1u << Bits) - 1);
  }
};

template <int Bits>
struct code_plane<layout::token_quads, Bits> {
  using block = detail::quad_block<Bits>;
  TERSEKV_HD static constexpr int depth(int dim) { return detail::round_up_to(dim, block::depth_unit); }
  TERSEKV_HD static constexpr std::size_t bytes(int rows, int dim) {
    return static_cast<std::size_t>((rows + detail::block_lanes - 1) / detail::block_lanes) * block::bytes(depth(dim));
  }
  static void store(std::byte* plane, int dim, int row, const std::uint8_t* codes) {
    std::byte* to = plane + lane(dim, row);
    block::each_plane([&]<int Low, int Width>() {
      constexpr int per = 8 / Width;
      std::byte* word = to + block::plane(Low, depth(dim));
      int c = 0;
      for (; c + 4 * per <= dim; c += 4 * per, word += stride) store_word<Low, Width>(codes + c, word);
      if (c < dim) {
        std::uint8_t rest[4 * per] = {};
        std::memcpy(rest, codes + c, static_cast<std::size_t>(dim - c));
        store_word<Low, Width>(rest, word);
        c += 4 * per, word += stride;
      }
      for (; c < depth(dim); c += 4 * per, word += stride) std::memset(word, 0, 4);
    });
  }
  static void load(const std::byte* plane, int dim, int row, std::uint8_t* codes) {
    const std::byte* from = plane + lane(dim, row);
    block::each_plane([&]<int Low, int Width>() {
      constexpr int per = 8 / Width;
      const std::byte* word = from + block::plane(Low, depth(dim));
      int c = 0;
      for (; c + 4 * per <= dim; c += 4 * per, word += stride) load_word<Low, Width>(word, codes + c);
      if (c < dim) {
        std::uint8_t rest[4 * per] = {};
        std::memcpy(rest, codes + c, static_cast<std::size_t>(dim - c));
        load_word<Low, Width>(word, rest);
        std::memcpy(codes + c, rest, static_cast<std::size_t>(dim - c));
      }
    });
  }
  static void move(std::byte* to, int to_row, const std::byte* from, int from_row, int dim) {
    to += lane(dim, to_row), from += lane(dim, from_row);
    for (std::size_t i = 0; i < block::bytes(depth(dim)); i += stride) std::memmove(to + i, from + i, 4);
  }
  TERSEKV_HD static std::uint32_t code(const std::byte* plane, int dim, int row, int channel) {
    return detail::code_in_block<Bits>(plane + lane(dim, row), depth(dim), channel);
  }
  /// Where the words of a row begin, `stride` bytes apart.
  TERSEKV_HD static constexpr std::size_t lane(int dim, int row) {
    return static_cast<std::size_t>(row / detail::block_lanes) * block::bytes(depth(dim)) +
           static_cast<std::size_t>(row % detail::block_lanes * 4);
  }
  static constexpr int stride = 4 * detail::block_lanes;

 private:
  /// One word of a plane: bits Low .. Low + Width of 32 / Width codes, the first four of them lowest in their bytes.
  template <int Low, int Width>
  static void store_word(const std::uint8_t* codes, std::byte* to) {
    std::uint32_t packed = 0;
    for (int k = 0; k < 8 / Width; ++k) {
      std::uint32_t quad;
      std::memcpy(&quad, codes + 4 * k, 4);
      packed |= (quad >> Low & block::template mask<Width>) << (Width * k);
    }
    std::memcpy(to, &packed, 4);
  }
  /// The lowest plane comes first and sets the codes, the others add to them.
  template <int Low, int Width>
  static void load_word(const std::byte* from, std::uint8_t* codes) {
    std::uint32_t word;
    std::memcpy(&word, from, 4);
    for (int k = 0; k < 8 / Width; ++k) {
      std::uint32_t quad = (word >> (Width * k) & block::template mask<Width>) << Low, below = 0;
      if constexpr (Low > 0) std::memcpy(&below, codes + 4 * k, 4);
      quad |= below;
      std::memcpy(codes + 4 * k, &quad, 4);
    }
  }
};

template <int Bits>
struct code_plane<layout::channel_quads, Bits> {
  using block = detail::quad_block<Bits>;
  TERSEKV_HD static constexpr int blocks(int dim) { return (dim + detail::block_lanes - 1) / detail::block_lanes; }
  TERSEKV_HD static constexpr std::size_t bytes(int rows, int dim) {
    return static_cast<std::size_t>((rows + detail::value_rows - 1) / detail::value_rows * blocks(dim)) *
           block::bytes(detail::value_rows);
  }
  /// The words that a row's codes share with other rows: their bits stay.
  static void store(std::byte* plane, int dim, int row, const std::uint8_t* codes) {
    std::byte* to = plane + first_block(dim, row);
    int c = 0;
    for (; c + detail::block_lanes <= dim; c += detail::block_lanes, to += block_bytes)
      store_lanes(codes + c, to, row % detail::value_rows);
    if (c == dim) return;
    std::uint8_t rest[detail::block_lanes] = {};
    std::memcpy(rest, codes + c, static_cast<std::size_t>(dim - c));
    store_lanes(rest, to, row % detail::value_rows);
  }
  static void load(const std::byte* plane, int dim, int row, std::uint8_t* codes) {
    const std::byte* from = plane + first_block(dim, row);
    int c = 0;
    for (; c + detail::block_lanes <= dim; c += detail::block_lanes, from += block_bytes)
      load_lanes(from, row % detail::value_rows, codes + c);
    if (c == dim) return;
    std::uint8_t rest[detail::block_lanes];
    load_lanes(from, row % detail::value_rows, rest);
    std::memcpy(codes + c, rest, static_cast<std::size_t>(dim - c));
  }
  static void move(std::byte* to, int to_row, const std::byte* from, int from_row, int dim) {
    to += first_block(dim, to_row), from += first_block(dim, from_row);
    for (int n = 0; n < blocks(dim); ++n, to += block_bytes, from += block_bytes)
      move_lanes(to, to_row % detail::value_rows, from, from_row % detail::value_rows);
  }
  TERSEKV_HD static std::uint32_t code(const std::byte* plane, int dim, int row, int channel) {
    return detail::code_in_block<Bits>(plane + lane(dim, row, channel), detail::value_rows, row % detail::value_rows);
  }
  /// Where the words of a channel begin in the block that holds the row, `stride` bytes apart.
  TERSEKV_HD static constexpr std::size_t lane(int dim, int row, int channel) {
    return first_block(dim, row) + static_cast<std::size_t>(channel / detail::block_lanes) * block_bytes +
           static_cast<std::size_t>(channel % detail::block_lanes * 4);
  }
  static constexpr int stride = 4 * detail::block_lanes;

 private:
  static constexpr std::size_t block_bytes = block::bytes(detail::value_rows);
  TERSEKV_HD static constexpr std::size_t first_block(int dim, int row) {
    return static_cast<std::size_t>(row / detail::value_rows * blocks(dim)) * block_bytes;
  }
  /// Where in a block the 16 words with codes of row `t` begin, and at which bit the codes stand in them.
  template <int Low, int Width>
  TERSEKV_HD static constexpr std::size_t words(int t) {
    return block::plane(Low, detail::value_rows) + static_cast<std::size_t>(t * Width / 32 * 4 * detail::block_lanes);
  }
  template <int Width>
  TERSEKV_HD static constexpr int shift(int t) {
    return t % 4 * 8 + t / 4 * Width % 8;
  }
  static void store_lanes(const std::uint8_t* codes, std::byte* to, int t) {
    block::each_plane([&]<int Low, int Width>() {
      const int at = shift<Width>(t);
      const std::uint32_t others = ~(((1u << Width) - 1) << at);
      std::uint32_t word[detail::block_lanes];
      std::memcpy(word, to + words<Low, Width>(t), sizeof(word));
      for (int i = 0; i < detail::block_lanes; ++i)
        word[i] = (word[i] & others) | (static_cast<std::uint32_t>(codes[i]) >> Low & ((1u << Width) - 1)) << at;
      std::memcpy(to + words<Low, Width>(t), word, sizeof(word));
    });
  }
  static void move_lanes(std::byte* to, int to_t, const std::byte* from, int from_t) {
    block::each_plane([&]<int Low, int Width>() {
      constexpr std::uint32_t bits = (1u << Width) - 1;
      const int put = shift<Width>(to_t), take = shift<Width>(from_t);
      std::uint32_t word[detail::block_lanes], other[detail::block_lanes];
      std::memcpy(word, to + words<Low, Width>(to_t), sizeof(word));
      std::memcpy(other, from + words<Low, Width>(from_t), sizeof(other));
      for (int i = 0; i < detail::block_lanes; ++i)
        word[i] = (word[i] & ~(bits << put)) | (other[i] >> take & bits) << put;
      std::memcpy(to + words<Low, Width>(to_t), word, sizeof(word));
    });
  }
  static void load_lanes(const std::byte* from, int t, std::uint8_t* codes) {
    std::uint32_t u[detail::block_lanes] = {};
    block::each_plane([&]<int Low, int Width>() {
      const int at = shift<Width>(t);
      std::uint32_t word[detail::block_lanes];
      std::memcpy(word, from + words<Low, Width>(t), sizeof(word));
      for (int i = 0; i < detail::block_lanes; ++i) u[i] |= (word[i] >> at & ((1u << Width) - 1)) << Low;
    });
    for (int i = 0; i < detail::block_lanes; ++i) codes[i] = static_cast<std::uint8_t>(u[i]);
  }
};

/// Where the number of `group` of row `row` stands in a plane of metadata of a tile of `rows` rows.
template <class Layout>
TERSEKV_HD constexpr std::size_t number_at(int row, int group, int rows, int groups) {
  if constexpr (std::same_as<Layout, layout::rows>)
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(groups) + static_cast<std::size_t>(group);
  else
    return static_cast<std::size_t>(group) * static_cast<std::size_t>(rows) + static_cast<std::size_t>(row);
}

}  // namespace tersekv
