// SPDX-License-Identifier: Apache-2.0
// bench_tables <folder of *.json> <RESULTS.md> <roofline.svg>: one list of all records, the tables between the page's
// markers, the drawing.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>

#include "goals.hpp"
#include "record.hpp"
#include "roofline.hpp"

namespace bench {
namespace {

/// Replaces what stands between <!-- name:begin --> and <!-- name:end -->.
void put(std::string& page, const std::string& name, const std::string& text) {
  const std::string begin = "<!-- " + name + ":begin -->\n", end = "<!-- " + name + ":end -->";
  const std::size_t from = page.find(begin), to = page.find(end);
  if (from == std::string::npos || to == std::string::npos || to < from)
    throw std::runtime_error("the page has no " + begin.substr(0, begin.size() - 1) + " ... " + end);
  page.replace(from + begin.size(), to - from - begin.size(), "\n" + text);
}

std::string number(const char* format, double x) {
  char text[64];
  std::snprintf(text, sizeof text, format, x);
  return text;
}

/// Geometric mean of ratios to dense f16 over our recipes that are not dense: the number to watch.
std::string summary(const std::vector<record>& records) {
  double sum = 0, spread = 0;
  int n = 0, samples = 0, preempted = 0;
  for (const record& r : records) {
    if (r.of_peak && r.vs_dense_f16 && !r.recipe.starts_with("dense")) sum += std::log(*r.vs_dense_f16), ++n;
    spread = std::max(spread, (r.time.high - r.time.low) / r.time.us);
    samples += r.time.samples, preempted += r.time.preempted;
  }
  std::string out;
  if (n > 0)
    out += "Geometric mean of packed recipes against dense f16: **" + number("%.2f", std::exp(sum / n)) + "x**. ";
  std::vector<double> widths;
  for (const record& r : records) widths.push_back((r.time.high - r.time.low) / r.time.us);
  out += "Noise: half of the samples of a line lie within " + number("%.0f %%", 100 * quantile(widths, 0.5)) +
         " of its median (middle line; widest " + number("%.0f %%", 100 * spread) + "); " + std::to_string(preempted) +
         " of " + std::to_string(samples) + " samples were preempted, and not counted where others were left.\n\n";
  return out;
}

std::string about(const std::vector<run_of_question>& runs) {
  const machine& m = runs.front().on;
  std::string out = "- " + m.cpu + ", " + m.compiler + ", kernels for " + m.isa + ", last-level cache " +
                    std::to_string(m.last_level_cache >> 20) + " MiB\n";
  out +=
      "\n| threads | read, GB/s | integer products, 1e9 operations/s | f32 products, GFLOP/s "
      "|\n|---:|---:|---:|---:|\n";
  for (std::size_t n = 1; n < m.bandwidth.size(); ++n)
    out += "| " + std::to_string(n) + " | " + number("%.1f", m.bandwidth[n]) + " | " +
           number("%.0f", m.integer_peak[n]) + " | " + number("%.0f", m.float_peak[n]) + " |\n";
  return out + "\n";
}

void write_tables(const std::filesystem::path& folder, const std::filesystem::path& results,
                  const std::filesystem::path& svg) {
  std::ifstream in(results);
  std::stringstream text;
  text << in.rdbuf();
  std::string page = text.str();
  std::vector<run_of_question> runs;
  for (const char* question : {"attend", "append", "trim", "prompt", "recipes"})
    if (const auto file = folder / (std::string(question) + ".json"); std::filesystem::exists(file))
      runs.push_back(read_run(file));
  if (runs.empty()) throw std::runtime_error("no results in " + folder.string());
  put(page, "machine", about(runs));
  put(page, "goals", goals(runs));
  for (const run_of_question& r : runs) {
    put(page, r.question, summary(r.records) + tables(r));
    if (r.question == "attend") write_roofline(svg, r);
  }
  write_results(folder / "results.json", runs);
  std::ofstream out(results);
  out << page;
  if (!out.flush()) throw std::runtime_error("cannot write " + results.string());
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "bench_tables <folder of *.json> <RESULTS.md> <roofline.svg>\n";
    return 2;
  }
  try {
    bench::write_tables(argv[1], argv[2], argv[3]);
  } catch (const std::exception& e) {
    std::cerr << "bench_tables: " << e.what() << "\n";
    return 1;
  }
}
