// SPDX-License-Identifier: Apache-2.0
//
// Aligned text tables: the first column to the left, numbers to the right, two lines of heading.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

namespace lab {

std::string fixed(double x, int decimals);  // "nan" and "inf" as such

class text_table {
 public:
  void column(std::string name, std::string unit);
  void row(std::vector<std::string> cells);
  void print(std::ostream& out) const;

 private:
  std::vector<std::string> names_, units_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace lab
