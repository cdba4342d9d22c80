// SPDX-License-Identifier: Apache-2.0
#include "plots.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "chart.hpp"
#include "table.hpp"

namespace lab {
namespace {

constexpr rgb ink{40, 40, 48}, faint{225, 225, 230}, grey{120, 120, 128};
constexpr rgb reference_colour{40, 40, 48}, fewer_bits{31, 90, 180}, fewer_rows{204, 102, 0}, both{20, 140, 90};

/// Colour by what was measured: does the recipe keep fewer rows, fewer bits, or both?
rgb colour_of(const comparison::row& r) {
  const bool rows = r.text.cost.kept < 0.99, bits = r.text.cost.bits_per_number < 15.5;
  return rows && bits ? both : rows ? fewer_rows : bits ? fewer_bits : reference_colour;
}

constexpr double width = 960, height = 600, left = 76, right = 24, top = 64, bottom = 64;

void frame(svg& out, const axis& x, const axis& y, const std::string& title, const std::string& subtitle,
           const std::string& y_name) {
  for (double tick : x.ticks()) {
    out.line(x(tick), top, x(tick), height - bottom, faint);
    out.text(x(tick), height - bottom + 18, tick_label(tick), {.at = svg::anchor::middle, .colour = grey});
  }
  for (double tick : y.ticks()) {
    out.line(left, y(tick), width - right, y(tick), faint);
    out.text(left - 8, y(tick) + 4, tick_label(tick), {.at = svg::anchor::end, .colour = grey});
  }
  out.line(left, height - bottom, width - right, height - bottom, grey);
  out.line(left, top, left, height - bottom, grey);
  out.text(left, 28, title, {.size = 16, .bold = true});
  out.text(left, 48, subtitle, {.size = 12, .colour = grey});
  out.text(left, height - 22, "bytes held per token (log scale)", {});
  out.text(20, (top + height - bottom) / 2, y_name, {.at = svg::anchor::middle, .turned = -90});
  double at = width - right;
  for (const auto& [colour, name] : {std::pair{both, "fewer rows and bits"},
                                     {fewer_bits, "fewer bits"},
                                     {fewer_rows, "fewer rows"},
                                     {reference_colour, "all rows and bits"}}) {
    at -= text_width(name, 11) + 6;
    out.text(at, height - 22, name, {.size = 11, .colour = colour});
    out.circle(at - 8, height - 26, 3.5, colour);
    at -= 24;
  }
}

double text_bytes(const comparison::row& r) { return r.text.cost.bytes_per_token; }

axis bytes_axis(const comparison& c, const std::function<double(const comparison::row&)>& bytes) {
  double low = 1e300, high = 0;
  for (const auto& r : c.rows) low = std::min(low, bytes(r)), high = std::max(high, bytes(r));
  low = std::max(low, 1e-3);
  return {low / 1.4, std::max(high, low) * 1.4, left, width - right, true};
}

/// Thin lines between recipes that differ in their numbers only, such as three budgets of one method.
void connect_sweeps(svg& out, const comparison& c, const axis& x, const axis& y,
                    const std::function<double(const comparison::row&)>& value) {
  std::map<std::string, std::vector<const comparison::row*>> sweeps;
  for (const auto& r : c.rows) {
    std::string name = r.recipe;
    std::erase_if(name, [](char ch) { return ch >= '0' && ch <= '9'; });
    sweeps[name].push_back(&r);
  }
  for (auto& [name, rows] : sweeps) {
    std::sort(rows.begin(), rows.end(),
              [](auto* a, auto* b) { return a->text.cost.bytes_per_token < b->text.cost.bytes_per_token; });
    for (std::size_t i = 1; i < rows.size(); ++i)
      out.line(x(rows[i - 1]->text.cost.bytes_per_token), y(value(*rows[i - 1])), x(rows[i]->text.cost.bytes_per_token),
               y(value(*rows[i])), mixed(colour_of(*rows[i]), {255, 255, 255}, 0.6), 1.5);
  }
}

std::string described(const comparison& c) {
  return c.model_name + ", " + c.text_name + ", " + std::to_string(c.perplexity.chunks) + " x " +
         std::to_string(c.perplexity.context) + " tokens";
}

void plot_quality(const std::filesystem::path& file, const comparison& c, const std::string& title,
                  const std::string& y_name, const std::function<double(const comparison::row&)>& value,
                  bool with_reference) {
  svg out(width, height);
  double low = 1e300, high = 0;
  for (const auto& r : c.rows) {
    const double v = value(r);
    if (!std::isfinite(v) || v <= 0 || !(with_reference || r.recipe != c.reference)) continue;
    low = std::min(low, v), high = std::max(high, v);
  }
  if (high <= 0) return;
  const bool logarithmic = high / low > 2;
  const double margin = std::max(0.08 * (high - low), 1e-3 * low);
  axis x = bytes_axis(c, text_bytes), y{low - margin, high + margin, height - bottom, top, false};
  if (logarithmic) y = {low / 1.3, high * 1.3, height - bottom, top, true};
  frame(out, x, y, title, described(c), y_name + (logarithmic ? " (log scale)" : ""));
  connect_sweeps(out, c, x, y, value);
  labels names(out, {left + 2, top, width - right, height - bottom - 2});
  const auto shown = [&](const comparison::row& r) { return with_reference || r.recipe != c.reference; };
  if (with_reference) {
    const double full =
        y(value(*std::find_if(c.rows.begin(), c.rows.end(), [&](const auto& r) { return r.recipe == c.reference; })));
    out.line(left, full, width - right, full, grey, 1, true);
  }
  for (const auto& r : c.rows) {
    const double px = x(r.text.cost.bytes_per_token), py = y(value(r));
    if (shown(r)) names.keep_clear({px - 5, py - 5, px + 5, py + 5});
  }
  for (const auto& r : c.rows)
    if (shown(r)) names.put(x(r.text.cost.bytes_per_token), y(value(r)), r.recipe, colour_of(r));
  for (const auto& r : c.rows)
    if (shown(r)) out.circle(x(r.text.cost.bytes_per_token), y(value(r)), 4.5, colour_of(r));
  out.write(file);
}

void plot_passkey(const std::filesystem::path& file, const comparison& c) {
  svg out(width, height);
  const auto bytes = [](const comparison::row& r) { return r.passkey.bytes_per_token(); };
  const axis x = bytes_axis(c, bytes), y{-4, 108, height - bottom, top, false};
  frame(out, x, y, "Passkey: prompts answered exactly, against what the cache holds",
        c.model_name + ", " + c.text_name + "; dot: question seen when compressing, ring: unseen",
        "answered exactly, %");
  labels names(out, {left + 2, top, width - right, height - bottom - 2});
  const auto each = [&](auto&& body) {
    for (const auto& r : c.rows)
      for (const bool seen : {true, false})
        if (c.has_passkey(seen)) body(r, seen, x(bytes(r)), y(100 * r.passkey.exact(seen)));
  };
  each([&](const auto&, bool, double px, double py) { names.keep_clear({px - 8, py - 8, px + 8, py + 8}); });
  for (const auto& r : c.rows)
    if (c.has_passkey(true) && c.has_passkey(false))
      out.line(x(bytes(r)), y(100 * r.passkey.exact(true)), x(bytes(r)), y(100 * r.passkey.exact(false)),
               mixed(colour_of(r), {255, 255, 255}, 0.6), 1.5);
  for (const auto& r : c.rows)
    names.put(x(bytes(r)), y(100 * r.passkey.exact(c.has_passkey(true))), r.recipe, colour_of(r));
  each([&](const auto& r, bool seen, double px, double py) { out.circle(px, py, seen ? 4 : 7, colour_of(r), seen); });
  out.write(file);
}

/// One map: rows are lengths, columns depths.
void heat_map(svg& out, double x, double y, const comparison& c, const passkey_result& r, bool seen) {
  constexpr double cell_width = 34, cell_height = 22;
  constexpr rgb none{247, 243, 238}, all{24, 92, 150};
  const auto depths = static_cast<std::size_t>(c.passkey.depths);
  std::size_t i = 0;
  for (const passkey_cell& cell : r.cells) {
    if (cell.seen != seen) continue;
    const double share = static_cast<double>(cell.exact) / std::max(cell.prompts, 1);
    const double px = x + cell_width * static_cast<double>(i % depths),
                 py = y + cell_height * static_cast<double>(i / depths);
    out.rectangle(px, py, cell_width - 2, cell_height - 2, mixed(none, all, share));
    out.text(px + cell_width / 2 - 1, py + 14, fixed(100 * share, 0),
             {.size = 10, .at = svg::anchor::middle, .colour = share > 0.5 ? rgb{255, 255, 255} : ink});
    if (i % depths == 0)
      out.text(x - 6, py + 14, std::to_string(cell.length), {.size = 10, .at = svg::anchor::end, .colour = grey});
    ++i;
  }
  const double below = y + cell_height * static_cast<double>(i / depths) + 10;
  for (std::size_t d = 0; d < depths; ++d)
    out.text(x + cell_width * (static_cast<double>(d) + 0.5) - 1, below,
             fixed(100 * (static_cast<double>(d) + 0.5) / static_cast<double>(depths), 0) + "%",
             {.size = 9, .at = svg::anchor::middle, .colour = grey});
  out.text(x, y - 6, seen ? "question seen" : "question unseen", {.size = 10.5, .colour = grey});
}

void plot_passkey_grid(const std::filesystem::path& file, const comparison& c) {
  constexpr double cell_width = 34, cell_height = 22, margin = 24, lengths_width = 40;
  const int settings = (c.has_passkey(true) ? 1 : 0) + (c.has_passkey(false) ? 1 : 0);
  const double map_width = lengths_width + cell_width * c.passkey.depths;
  const auto title = [](const comparison::row& r) {
    return r.recipe + "  (" + fixed(r.passkey.bytes_per_token(), 0) + " bytes per token)";
  };
  double panel_width = settings * map_width + 28;
  for (const auto& r : c.rows) panel_width = std::max(panel_width, text_width(title(r), 11.5) + 28);
  const double panel_height = cell_height * static_cast<double>(c.passkey.lengths.size()) + 66;
  const std::size_t columns = std::max<std::size_t>(1, static_cast<std::size_t>(1100 / panel_width));
  const std::size_t lines = (c.rows.size() + columns - 1) / columns;
  svg out(2 * margin + panel_width * static_cast<double>(std::min(columns, c.rows.size())),
          64 + panel_height * static_cast<double>(lines) + 8);
  out.text(margin, 28, "Passkey: prompts answered exactly, %", {.size = 16, .bold = true});
  out.text(margin, 48,
           c.model_name + ", " + std::to_string(c.passkey.trials) + (c.passkey.trials == 1 ? " prompt" : " prompts") +
               " per cell; rows: tokens in the prompt, columns: depth of the line",
           {.size = 12, .colour = grey});
  for (std::size_t i = 0; i < c.rows.size(); ++i) {
    double x = margin + panel_width * static_cast<double>(i % columns);
    const double y = 64 + panel_height * static_cast<double>(i / columns);
    out.text(x, y + 16, title(c.rows[i]), {.size = 11.5, .bold = true});
    for (const bool seen : {true, false})
      if (c.has_passkey(seen)) {
        heat_map(out, x + lengths_width, y + 38, c, c.rows[i].passkey, seen);
        x += map_width;
      }
  }
  out.write(file);
}

}  // namespace

std::vector<std::filesystem::path> write_plots(const std::filesystem::path& folder, const comparison& c) {
  std::filesystem::create_directories(folder);
  std::vector<std::filesystem::path> files = {folder / "perplexity.svg", folder / "divergence.svg"};
  plot_quality(
      files[0], c, "Perplexity against what the cache holds", "perplexity",
      [](const comparison::row& r) { return r.text.score.perplexity; }, true);
  plot_quality(
      files[1], c, "Divergence from the full cache against what the cache holds",
      "mean KL divergence, nats, at least 1e-5",
      [](const comparison::row& r) { return std::max(r.text.score.kl_mean, 1e-5); }, false);
  if (c.has_passkey(true) || c.has_passkey(false)) {
    files.push_back(folder / "passkey.svg");
    plot_passkey(files.back(), c);
    files.push_back(folder / "passkey_grid.svg");
    plot_passkey_grid(files.back(), c);
  }
  return files;
}

}  // namespace lab
