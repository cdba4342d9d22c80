// SPDX-License-Identifier: Apache-2.0
#include "chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

namespace lab {

double axis::operator()(double x) const {
  const double share = logarithmic ? std::log(std::max(x, low) / low) / std::log(high / low) : (x - low) / (high - low);
  return from + std::clamp(share, 0.0, 1.0) * (to - from);
}

std::vector<double> axis::ticks() const {
  std::vector<double> out;
  if (logarithmic) {
    const bool few = high / low > 2000;
    for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10)
      for (double step : {1.0, 2.0, 5.0})
        if ((!few || step == 1.0) && decade * step >= low && decade * step <= high) out.push_back(decade * step);
  }
  if (out.size() < 3) {
    out.clear();
    const double rough = (high - low) / 6, decade = std::pow(10, std::floor(std::log10(rough)));
    const double step = rough / decade < 2 ? 2 * decade : rough / decade < 5 ? 5 * decade : 10 * decade;
    for (double i = std::ceil(low / step); i * step <= high + 1e-9 * step; ++i) out.push_back(i * step + 0.0);  // no -0
  }
  return out;
}

std::string tick_label(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", x);
  return text;
}

void labels::put(double x, double y, const std::string& words, rgb colour) {
  constexpr double size = 10.5, height = size + 1;
  const double width = text_width(words, size);
  std::optional<box> best;
  for (double away = 9; away < 260 && !best; away += 7)
    for (double angle : {0.0, 180.0, 30.0, -30.0, 150.0, -150.0, 60.0, -60.0, 120.0, -120.0, 90.0, -90.0}) {
      const double a = angle * 3.14159265358979 / 180;
      const double cx = x + away * std::cos(a) + width / 2 * std::cos(a), cy = y + away * std::sin(a);
      const box b{cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2};
      const bool inside = b.x0 >= area_.x0 && b.x1 <= area_.x1 && b.y0 >= area_.y0 && b.y1 <= area_.y1;
      if (!inside || std::any_of(taken_.begin(), taken_.end(), [&](const box& t) { return t.meets(b); })) continue;
      best = b;
      if (away > 14) {
        const double near_x = std::clamp(x, b.x0, b.x1), near_y = std::clamp(y, b.y0, b.y1);
        out_.line(x, y, near_x, near_y, mixed(colour, {255, 255, 255}, 0.5), 0.8);
      }
      break;
    }
  if (!best) return;  // no room left: the table has the numbers
  taken_.push_back(*best);
  out_.text(best->x0, best->y1 - 2.5, words, {.size = size, .colour = colour});
}

}  // namespace lab
