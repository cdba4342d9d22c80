// SPDX-License-Identifier: Apache-2.0
// One head as the CPU holds it and as a device does: the same rows, and the same bytes of each.
#pragma once
#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <tersekv/backend/cuda/rows.hpp>
#include <tersekv/head_rows.hpp>

namespace test {

/// What may differ where both sides computed it: columns that observe attention, rows that took in others.
struct head_tolerance {
  float columns = 0;  // of the larger number
  float rows = 0;     // of the largest number of the row, as it is read
  double codes = 0;   // share of numbers that may differ by more: they lay between two codes
};

template <class Page, int Columns, bool Biased>
class head_comparison {
 public:
  using rows_type = tersekv::head_rows<Page, Columns, Biased>;
  /// device: its arrays are readable here.
  head_comparison(const Page& page, const tersekv::detail::device_head& device, const rows_type& host,
                  head_tolerance tolerance = {})
      : page_(page), device_(device), host_(host), tolerance_(tolerance) {}

  void run() {
    REQUIRE(device_.sinks == host_.sinks());
    REQUIRE(device_.packed == host_.packed());
    REQUIRE(device_.rows() - device_.dead == host_.live());
    REQUIRE(device_.window == host_.window());
    for (int i = 0; i < host_.slots(); ++i) {
      CAPTURE(i);
      REQUIRE(device_.position[i] == host_.position()[at(i)]);
      if (host_.position()[at(i)] < 0) continue;
      for (int n = 0; n < Columns; ++n)
        same_number(device_.state[i * Columns + n], host_.state(i)[at(n)], tolerance_.columns);
      if (Biased) same_number(device_.bias[i], host_.bias(i), tolerance_.columns);
      if (host_.is_packed(i)) same_packed(i - host_.sinks());
    }
    same_numbers(device_.sink_keys, host_.sink_keys(), host_.sinks(), page_.key_dim);
    same_numbers(device_.sink_values, host_.sink_values(), host_.sinks(), page_.value_dim);
    same_numbers(device_.window_keys, host_.window_keys(), host_.window(), page_.key_dim);
    same_numbers(device_.window_values, host_.window_values(), host_.window(), page_.value_dim);
    for (int p = 0; p < host_.pages() && tolerance_.rows == 0; ++p)
      REQUIRE(std::memcmp(page_.summary(device_.page[p]), page_.summary(host_.page(p)),
                          page_.read.bytes(page_.key_dim)) == 0);
    CAPTURE(differ_, numbers_);
    REQUIRE(differ_ <= tolerance_.codes * numbers_);
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  static void same_number(float x, float y, float tolerance) {
    CAPTURE(x, y);
    REQUIRE((x == y || std::abs(x - y) <= tolerance * std::max(std::abs(x), std::abs(y))));
  }
  void same_row(const float* x, const float* y, int dim) {
    numbers_ += dim;
    if (std::memcmp(x, y, at(dim) * sizeof(float)) == 0) return;
    float largest = 0;
    for (int c = 0; c < dim; ++c) largest = std::max(largest, std::abs(y[c]));
    for (int c = 0; c < dim; ++c) differ_ += !(std::abs(x[c] - y[c]) <= tolerance_.rows * largest);
    CAPTURE(largest);
    REQUIRE((tolerance_.codes > 0 || differ_ == 0));
  }
  void same_numbers(const tersekv::half* x, const tersekv::half* y, int rows, int dim) {
    std::vector<float> a(at(dim)), b(a);
    for (int r = 0; r < rows; ++r) {
      tersekv::widen(x + r * dim, dim, a.data());
      tersekv::widen(y + r * dim, dim, b.data());
      same_row(a.data(), b.data(), dim);
    }
  }
  void same_packed(int r) {
    const int p = r / Page::rows, in_page = r % Page::rows;
    if constexpr (Page::span == 1)
      if (tolerance_.rows == 0) {
        std::vector<std::byte> a(page_.bytes()), b(page_.bytes());
        page_.move(a.data(), in_page, device_.page[p], in_page);
        page_.move(b.data(), in_page, host_.page(p), in_page);
        REQUIRE(a == b);
        return;
      }
    std::vector<float> a(at(std::max(page_.key_dim, page_.value_dim))), b(a);
    page_.decode_keys(device_.page[p], in_page, 1, a.data());
    page_.decode_keys(host_.page(p), in_page, 1, b.data());
    same_row(a.data(), b.data(), page_.key_dim);
    page_.decode_values(device_.page[p], in_page, 1, a.data());
    page_.decode_values(host_.page(p), in_page, 1, b.data());
    same_row(a.data(), b.data(), page_.value_dim);
  }

  const Page& page_;
  const tersekv::detail::device_head& device_;
  const rows_type& host_;
  head_tolerance tolerance_;
  int numbers_ = 0, differ_ = 0;
};

}  // namespace test
