// SPDX-License-Identifier: Apache-2.0
// Tiles made of planes: codes, scales and side data as separate arrays, each with a fixed number of bytes per row.
// A format that derives from row_planes and gives `planes(dim)` gets its sizes and the bit-for-bit move of a row.
#pragma once
#include <array>
#include <cstddef>
#include <cstring>
#include <string>

#include <tersekv/error.hpp>

namespace tersekv::detail {

template <class Format>
struct row_planes {
  std::size_t bytes(int rows, int dim) const {
    std::size_t sum = 0;
    for (const std::size_t b : self().planes(dim)) sum += b;
    return sum * static_cast<std::size_t>(rows);
  }
  /// Row `from_row` of one tile becomes row `to_row` of another; both tiles hold `rows` rows.
  void move(std::byte* to, int to_row, const std::byte* from, int from_row, int rows, int dim) const {
    for (const std::size_t b : self().planes(dim)) {
      std::memmove(to + static_cast<std::size_t>(to_row) * b, from + static_cast<std::size_t>(from_row) * b, b);
      to += b * static_cast<std::size_t>(rows);
      from += b * static_cast<std::size_t>(rows);
    }
  }

 protected:
  /// Where plane `p` of row `row` begins.
  std::size_t at(int p, int row, int rows, int dim) const {
    const auto planes = self().planes(dim);
    std::size_t offset = 0;
    for (int i = 0; i < p; ++i) offset += planes[static_cast<std::size_t>(i)] * static_cast<std::size_t>(rows);
    return offset + planes[static_cast<std::size_t>(p)] * static_cast<std::size_t>(row);
  }

 private:
  const Format& self() const { return static_cast<const Format&>(*this); }
};

inline constexpr int most_channels = 4096;  // of a row whose codes pass over the stack

/// Throws above that.
inline void require_few(const char* format, int dim) {
  if (dim > most_channels)
    throw shape_error(std::string("tersekv::") + format + ": the head dimension is " + std::to_string(dim) +
                      ", but at most " + std::to_string(most_channels));
}
/// Throws unless `dim` is a multiple of `factor`.
inline void require_multiple(const char* format, int dim, int factor) {
  if (dim % factor != 0)
    throw shape_error(std::string("tersekv::") + format + ": the head dimension is " + std::to_string(dim) +
                      ", but must be a multiple of " + std::to_string(factor));
}

}  // namespace tersekv::detail
