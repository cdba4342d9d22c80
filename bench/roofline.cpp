// SPDX-License-Identifier: Apache-2.0
#include "roofline.hpp"

#include <algorithm>
#include <cmath>

#include "chart.hpp"

namespace bench {
namespace {

constexpr lab::rgb ink{40, 40, 48}, faint{225, 225, 230}, grey{120, 120, 128};
constexpr lab::rgb integers{31, 90, 180}, floats{204, 102, 0}, others{150, 150, 158};
constexpr double width = 960, height = 600, left = 76, right = 24, top = 64, bottom = 64;

struct point {
  double x, y;  // operations per byte, 1e9 operations per second
  std::string name;
  lab::rgb colour;
};

}  // namespace

void write_roofline(const std::filesystem::path& file, const run_of_question& attend) {
  const record* last = nullptr;  // of the case that is drawn
  for (const record& r : attend.records)
    if (r.shape.kv_heads == attend.records.front().shape.kv_heads &&
        (!last || r.rows > last->rows || (r.rows == last->rows && r.threads >= last->threads)))
      last = &r;
  if (!last) return;
  double bandwidth = 0;
  std::vector<point> points;
  for (const record& r : attend.records) {
    if (r.shape.kv_heads != last->shape.kv_heads || r.rows != last->rows || r.threads != last->threads) continue;
    if (const auto found = r.also.find("bandwidth"); found != r.also.end()) bandwidth = found->second;
    if (r.bytes == 0 || !r.also.contains("peak")) continue;
    const auto u = static_cast<std::size_t>(r.threads);
    const bool ours = r.of_peak.has_value(), integer = r.also.at("peak") == attend.on.integer_peak[u];
    points.push_back({operations(r) / static_cast<double>(r.bytes), 1e-3 * operations(r) / r.time.us, r.recipe,
                      !ours     ? others
                      : integer ? integers
                                : floats});
  }
  if (points.empty()) return;
  const auto u = static_cast<std::size_t>(last->threads);
  const double integer_peak = attend.on.integer_peak[u], float_peak = attend.on.float_peak[u];
  double low_x = 1e300, high_x = 0, low_y = 1e300;
  for (const point& p : points)
    low_x = std::min(low_x, p.x), high_x = std::max(high_x, p.x), low_y = std::min(low_y, p.y);
  const lab::axis x{low_x / 2, std::max(high_x, integer_peak / bandwidth) * 2, left, width - right, true};
  const lab::axis y{std::min(low_y, bandwidth * low_x / 2) / 1.5, integer_peak * 2, height - bottom, top, true};

  lab::svg out(width, height);
  for (const double tick : x.ticks()) {
    out.line(x(tick), top, x(tick), height - bottom, faint);
    out.text(x(tick), height - bottom + 18, lab::tick_label(tick), {.at = lab::svg::anchor::middle, .colour = grey});
  }
  for (const double tick : y.ticks()) {
    out.line(left, y(tick), width - right, y(tick), faint);
    out.text(left - 8, y(tick) + 4, lab::tick_label(tick), {.at = lab::svg::anchor::end, .colour = grey});
  }
  out.text(left, 28, "Decode attention against the machine's limits", {.size = 16, .bold = true});
  out.text(left, 48,
           attend.on.cpu + ", " + attend.on.isa + ", " + std::to_string(last->threads) + " threads; " +
               std::to_string(last->shape.query_heads()) + " query heads, " + std::to_string(last->shape.kv_heads) +
               " KV heads of " + std::to_string(last->shape.head_dim) + ", " + std::to_string(last->rows) + " rows",
           {.size = 12, .colour = grey});
  out.text(left, height - 22, "multiplications and additions per byte held (log scale)", {});
  out.text(20, (top + height - bottom) / 2, "1e9 multiplications and additions per second (log scale)",
           {.at = lab::svg::anchor::middle, .turned = -90});

  const auto roof = [&](double peak, lab::rgb colour, const std::string& name) {
    const double corner = std::clamp(peak / bandwidth, x.low, x.high);
    out.line(x(x.low), y(bandwidth * x.low), x(corner), y(bandwidth * corner), ink, 1.5);
    out.line(x(corner), y(peak), x(x.high), y(peak), colour, 1.5, true);
    out.text(width - right - 4, y(peak) - 6, name, {.size = 11, .at = lab::svg::anchor::end, .colour = colour});
  };
  roof(float_peak, floats, "peak of f32 products");
  roof(integer_peak, integers, "peak of integer products");
  out.text(x(x.low) + 6, y(bandwidth * x.low) + 18, "bandwidth: " + lab::tick_label(std::round(bandwidth)) + " GB/s",
           {.size = 11, .colour = ink});

  lab::labels names(out, {left + 2, top, width - right, height - bottom - 2});
  for (const point& p : points) names.keep_clear({x(p.x) - 5, y(p.y) - 5, x(p.x) + 5, y(p.y) + 5});
  for (const point& p : points) names.put(x(p.x), y(p.y), p.name, p.colour);
  for (const point& p : points) out.circle(x(p.x), y(p.y), 4.5, p.colour);
  out.write(file);
}

}  // namespace bench
