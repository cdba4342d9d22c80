// SPDX-License-Identifier: Apache-2.0
#include "table.hpp"

#include <algorithm>
#include <cstdio>
#include <ostream>

namespace lab {

std::string fixed(double x, int decimals) {
  char text[64];
  const bool plain = x > -1e15 && x < 1e15;  // false for NaN as well
  std::snprintf(text, sizeof text, plain ? "%.*f" : "%.*g", decimals, x);
  return text;
}

void text_table::column(std::string name, std::string unit) {
  names_.push_back(std::move(name));
  units_.push_back(std::move(unit));
}

void text_table::row(std::vector<std::string> cells) {
  cells.resize(names_.size());
  rows_.push_back(std::move(cells));
}

void text_table::print(std::ostream& out) const {
  std::vector<std::size_t> width(names_.size());
  for (std::size_t i = 0; i < width.size(); ++i) {
    width[i] = std::max(names_[i].size(), units_[i].size());
    for (const auto& cells : rows_) width[i] = std::max(width[i], cells[i].size());
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string space(width[i] - cells[i].size(), ' ');
      text += i == 0 ? cells[i] + space : "  " + space + cells[i];
    }
    out << text.substr(0, text.find_last_not_of(' ') + 1) << "\n";
  };
  line(names_);
  line(units_);
  std::size_t total = 2 * (width.size() - 1);
  for (std::size_t w : width) total += w;
  out << std::string(total, '-') << "\n";
  for (const auto& cells : rows_) line(cells);
}

}  // namespace lab
