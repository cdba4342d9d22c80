// SPDX-License-Identifier: Apache-2.0
#include "svg.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace lab {
namespace {

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", std::isfinite(x) ? x : 0.0);
  return text;
}

std::string colour_name(rgb c) {
  char text[16];
  const auto byte = [](int x) { return static_cast<unsigned>(std::clamp(x, 0, 255)); };
  std::snprintf(text, sizeof text, "#%02x%02x%02x", byte(c.red), byte(c.green), byte(c.blue));
  return text;
}

std::string escaped(std::string_view words) {
  std::string out;
  for (char c : words) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string attribute(std::string_view name, const std::string& value) {
  return " " + std::string(name) + "=\"" + value + "\"";
}

}  // namespace

rgb mixed(rgb from, rgb to, double share) {
  const auto mix = [&](int a, int b) {
    return static_cast<int>(std::lround(a + (b - a) * std::clamp(share, 0.0, 1.0)));
  };
  return {mix(from.red, to.red), mix(from.green, to.green), mix(from.blue, to.blue)};
}

void svg::line(double x0, double y0, double x1, double y1, rgb colour, double thickness, bool dashed) {
  body_ += "<line" + attribute("x1", number(x0)) + attribute("y1", number(y0)) + attribute("x2", number(x1)) +
           attribute("y2", number(y1)) + attribute("stroke", colour_name(colour)) +
           attribute("stroke-width", number(thickness)) + (dashed ? attribute("stroke-dasharray", "4 4") : "") + "/>\n";
}

void svg::rectangle(double x, double y, double width, double height, rgb fill) {
  body_ += "<rect" + attribute("x", number(x)) + attribute("y", number(y)) + attribute("width", number(width)) +
           attribute("height", number(height)) + attribute("fill", colour_name(fill)) + "/>\n";
}

void svg::circle(double x, double y, double radius, rgb colour, bool filled) {
  body_ += "<circle" + attribute("cx", number(x)) + attribute("cy", number(y)) + attribute("r", number(radius)) +
           attribute("fill", filled ? colour_name(colour) : "none") + attribute("stroke", colour_name(colour)) +
           attribute("stroke-width", "1.6") + "/>\n";
}

void svg::text(double x, double y, std::string_view words, text_style style) {
  constexpr const char* anchors[] = {"start", "middle", "end"};
  body_ += "<text" + attribute("x", number(x)) + attribute("y", number(y)) +
           attribute("font-size", number(style.size)) + attribute("text-anchor", anchors[static_cast<int>(style.at)]) +
           attribute("fill", colour_name(style.colour)) + (style.bold ? attribute("font-weight", "bold") : "");
  if (style.turned != 0)
    body_ += attribute("transform", "rotate(" + number(style.turned) + " " + number(x) + " " + number(y) + ")");
  body_ += ">" + escaped(words) + "</text>\n";
}

void svg::write(const std::filesystem::path& file) const {
  std::ofstream out(file);
  const std::string width = number(width_), height = number(height_);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\"" << attribute("width", width) << attribute("height", height)
      << attribute("viewBox", "0 0 " + width + " " + height)
      << attribute("font-family", "Helvetica, Arial, 'DejaVu Sans', sans-serif") << ">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
      << body_ << "</svg>\n";
  if (!out.flush()) throw std::runtime_error("Cannot write '" + file.string() + "'.");
}

double text_width(std::string_view words, double size) { return 0.66 * size * static_cast<double>(words.size()); }

}  // namespace lab
