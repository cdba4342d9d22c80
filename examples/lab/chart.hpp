// SPDX-License-Identifier: Apache-2.0
//
// What drawings with two axes share: values to pixels, round ticks, labels that keep clear of each other.
#pragma once
#include <string>
#include <vector>

#include "svg.hpp"

namespace lab {

/// Maps values to pixels along one direction, evenly or by logarithm, and chooses round values for the ticks.
struct axis {
  double low, high, from, to;
  bool logarithmic;

  double operator()(double x) const;
  std::vector<double> ticks() const;
};

std::string tick_label(double x);

struct box {
  double x0, y0, x1, y1;
  bool meets(const box& o) const { return x0 < o.x1 && o.x0 < x1 && y0 < o.y1 && o.y0 < y1; }
};

/// Puts each label near its point where nothing stands yet; a line leads to those that had to move away.
class labels {
 public:
  labels(svg& out, box area) : out_(out), area_(area) {}
  void keep_clear(box b) { taken_.push_back(b); }
  void put(double x, double y, const std::string& words, rgb colour);

 private:
  svg& out_;
  box area_;
  std::vector<box> taken_;
};

}  // namespace lab
