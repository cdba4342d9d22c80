// SPDX-License-Identifier: Apache-2.0
// The rows of one page, as a block of threads writes them: page_format.hpp on a device, summaries included.
#pragma once
#include <tersekv/backend/cuda/encode.cuh>
#include <tersekv/page_format.hpp>

namespace tersekv::detail {

inline constexpr int most_numbers =
    8224;  // of rows that a block works on in shared memory: 32 rows of 256, odd strides

/// Rows of floats stand an odd number of words apart, so that columns of them meet no bank twice.
TERSEKV_HD constexpr int row_stride(int dim) { return dim | 1; }

/// Floats that a block needs for one span of rows, and for a tile of a page whose rows are moved.
template <class Page>
int numbers_needed(const Page& page) {
  const int dim = page.key_dim > page.value_dim ? page.key_dim : page.value_dim;
  const auto tile = static_cast<int>(page.bytes() / sizeof(float));
  const int span = Page::span * row_stride(dim);
  return round_up_to(Page::span == 1 && tile > span ? tile : span, 4);
}

/// Memory of one block.
struct writer_scratch {
  float* numbers;  // [room]
  int room;
  coder* coders;  // [most_coders]
};

/// Functions for the whole block, behind a barrier; they end with one.
template <class Page>
struct page_writer {
  const Page& page;
  writer_scratch scratch;

  /// Rows first .. first + count become key(k, channel), value(k, channel), k < count; multiples of span.
  template <class Key, class Value>
  __device__ void encode(std::byte* bytes, int first, int count, Key key, Value value) const {
    encode_tile(page.keys, page.key_dim, bytes, first, count, key);
    encode_tile(page.values, page.value_dim, page.values_of(bytes), first, count, value);
    summarize(bytes, first, count, first == 0, [](int) { return true; });
  }

  /// Rows 0 .. Page::rows become those that `from` names, decoded and encoded again: from(k) is a page and a row of it.
  template <class From>
  __device__ void encode_again(std::byte* bytes, From from) const {
    again(page.keys, page.key_dim, bytes, from);
    again(page.values, page.value_dim, page.values_of(bytes), [&](int k) {
      const tile_row r = from(k);
      return tile_row{page.values_of(r.tile), r.row};
    });
    summarize(bytes, 0, Page::rows, true, [](int) { return true; });
  }

  /// The summary takes in the rows first .. first + count of which counts(row); fresh = it forgets older ones.
  template <class Counts>
  __device__ void summarize(std::byte* bytes, int first, int count, bool fresh, Counts counts) const {
    if constexpr (std::remove_cvref_t<decltype(page.read)>::selects) {
      const row_floats x{scratch.numbers, row_stride(page.key_dim)};
      const int most = rows_at_a_time(page.key_dim);
      for (int begin = first; begin < first + count; begin += most) {
        const int now = most < first + count - begin ? most : first + count - begin;
        block_format<typename Page::key_format>::decode(
            page.keys,
            [&](int k) {
              return tile_row{bytes, begin + k};
            },
            Page::rows, page.key_dim, now, x);
        each_thread(page.key_dim, [&](int c) {
          bool forget = fresh;
          for (int k = 0; k < now; ++k) {
            if (!counts(begin + k)) continue;
            page.read.add(page.summary(bytes), page.key_dim, c, x.row(k)[c], forget);
            forget = false;
          }
        });
        for (int k = 0; k < now; ++k) fresh = fresh && !counts(begin + k);
        __syncthreads();
      }
    }
  }

 private:
  __device__ int rows_at_a_time(int dim) const {
    const int n = scratch.room / row_stride(dim) / Page::span * Page::span;
    return n < Page::rows ? n : Page::rows;
  }
  template <class Format, class Number>
  __device__ void encode_tile(const Format& f, int dim, std::byte* tile, int first, int count, Number number) const {
    const row_floats x{scratch.numbers, row_stride(dim)};
    const int most = rows_at_a_time(dim);
    for (int done = 0; done < count; done += most) {
      const int now = most < count - done ? most : count - done;
      each_thread(now * dim, [&](int i) { x.row(i / dim)[i % dim] = number(done + i / dim, i % dim); });
      __syncthreads();
      block_format<Format>::encode(f, x, dim, tile, Page::rows, first + done, now, scratch.coders);
    }
  }
  template <class Format, class From>
  __device__ void again(const Format& f, int dim, std::byte* tile, From from) const {
    const row_floats x{scratch.numbers, row_stride(dim)};
    const int most = rows_at_a_time(dim);
    for (int done = 0; done < Page::rows; done += most) {
      const int now = most < Page::rows - done ? most : Page::rows - done;
      block_format<Format>::decode(
          f, [&](int k) { return from(done + k); }, Page::rows, dim, now, x);
      block_format<Format>::encode(f, x, dim, tile, Page::rows, done, now, scratch.coders);
    }
  }
};

}  // namespace tersekv::detail
