// SPDX-License-Identifier: Apache-2.0
//
// A drawing made of a few shapes, written as one self-contained SVG file. Coordinates are pixels, y grows downwards.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace lab {

struct rgb {
  int red = 0, green = 0, blue = 0;
};

/// Between `from` (share 0) and `to` (share 1).
rgb mixed(rgb from, rgb to, double share);

class svg {
 public:
  enum class anchor { start, middle, end };
  struct text_style {
    double size = 12;
    anchor at = anchor::start;
    rgb colour = {40, 40, 48};
    bool bold = false;
    double turned = 0;  // degrees, clockwise, about the given point
  };

  svg(double width, double height) : width_(width), height_(height) {}

  void line(double x0, double y0, double x1, double y1, rgb colour, double thickness = 1, bool dashed = false);
  void rectangle(double x, double y, double width, double height, rgb fill);
  void circle(double x, double y, double radius, rgb colour, bool filled = true);
  void text(double x, double y, std::string_view words, text_style style);

  /// Throws std::runtime_error when the file cannot be written.
  void write(const std::filesystem::path& file) const;

 private:
  double width_, height_;
  std::string body_;
};

/// About how wide a text is; good enough to keep labels apart.
double text_width(std::string_view words, double size);

}  // namespace lab
