// SPDX-License-Identifier: Apache-2.0
// gpu_bench: every question about kernels, on the first GPU. --results <path> writes <path>.json and <path>.md.
#include "session.hpp"

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

namespace bench {
namespace {

std::string text(const char* format, double x) {
  char out[64];
  std::snprintf(out, sizeof out, format, x);
  return out;
}
std::string duration(double us) { return us < 1000 ? text("%.1f us", us) : text("%.2f ms", us / 1000); }

nlohmann::json to_json(const session& s) {
  const gpu& c = s.card;
  nlohmann::json out = {{"card",
                         {{"name", c.name},
                          {"compute_capability", std::to_string(c.major) + "." + std::to_string(c.minor)},
                          {"multiprocessors", c.multiprocessors},
                          {"memory", c.memory},
                          {"l2", c.l2},
                          {"driver", c.driver},
                          {"compiler", c.compiler},
                          {"copy_gb_per_s", c.copy},
                          {"read_gb_per_s", c.read},
                          {"tensor_tflop_per_s", c.tensor}}},
                        {"quick", s.quick},
                        {"notes", s.notes},
                        {"records", nlohmann::json::array()}};
  for (const record& r : s.records) {
    nlohmann::json j = {{"question", r.question}, {"part", r.part},           {"recipe", r.recipe},
                        {"us", r.time.us},        {"us_low", r.time.low},     {"us_high", r.time.high},
                        {"us_best", r.time.best}, {"samples", r.time.samples}};
    for (const auto& [name, x] : r.numbers) j[name] = std::isfinite(x) ? nlohmann::json(x) : nullptr;
    out["records"].push_back(std::move(j));
  }
  return out;
}

/// Records of one part, in the order of measuring; columns are those of the first.
std::string table(const std::vector<const record*>& rows) {
  std::string out = "| recipe | time | quartiles |", line = "|---|---:|---:|";
  for (const auto& [name, x] : rows.front()->numbers) out += " " + name + " |", line += "---:|";
  out += "\n" + line + "\n";
  for (const record* r : rows) {
    out += "| `" + r->recipe + "` | " + duration(r->time.us) + " | " +
           text("%+.0f", 100 * (r->time.low / r->time.us - 1)) + " / " +
           text("%+.0f %%", 100 * (r->time.high / r->time.us - 1)) + " |";
    for (const auto& [name, x] : r->numbers) {
      out += " ";
      if (!std::isfinite(x))
        out += "–";
      else if (name == kept)
        out += x > 0 ? "yes" : "**no**";
      else
        out += text("%.4g", x);
      out += " |";
    }
    out += "\n";
  }
  return out;
}

std::string to_markdown(const session& s) {
  const gpu& c = s.card;
  std::string out = "# " + c.name + "\n\nWritten by `cmake -P cmake/gpu.cmake`. Ratios are of this run.\n\n- " +
                    std::to_string(c.multiprocessors) + " multiprocessors, compute capability " +
                    std::to_string(c.major) + "." + std::to_string(c.minor) + ", L2 " + std::to_string(c.l2 >> 20) +
                    " MiB, " + c.compiler + ", driver " + std::to_string(c.driver) + "\n- Copy " +
                    text("%.0f GB/s", c.copy) + " (read and written), read " + text("%.0f GB/s", c.read) +
                    ", products of halves (`mma.sync`) " + text("%.0f TFLOP/s", c.tensor) + "\n";
  out +=
      "- Candidates of a table run in turn, each a graph of steps whose rows are not in L2; medians and quartiles of a "
      "step\n- attend: MB are the pages that a step reads, scales included. The bound is 6 us + bytes / (share * "
      "copy), "
      "the share 0.90 for 16 bits, 0.85 for int8, 0.80 for 4 bits, 0.60 for 2. The error is that against the reference "
      "kernel\n";
  for (const std::string& n : s.notes) out += "- " + n + "\n";
  std::vector<std::string> order;
  std::map<std::string, std::vector<const record*>> parts;
  for (const record& r : s.records) {
    const std::string title = r.question + ": " + r.part;
    if (!parts.count(title)) order.push_back(title);
    parts[title].push_back(&r);
  }
  for (const std::string& title : order) out += "\n## " + title + "\n\n" + table(parts[title]);
  return out;
}

}  // namespace

void session::say(const std::string& line) const { std::cerr << line << std::endl; }
void session::note(const std::string& line) {
  say(line);
  notes.push_back(line);
}
void session::write(const std::filesystem::path& results) const {
  if (results.has_parent_path()) std::filesystem::create_directories(results.parent_path());
  std::ofstream(results.string() + ".json") << to_json(*this).dump(1) << "\n";
  std::ofstream(results.string() + ".md") << to_markdown(*this);
}

}  // namespace bench

int main(int argc, char** argv) {
  CLI::App app("Benchmarks of kernels on the first GPU");
  bench::session s;
  std::filesystem::path results;
  std::vector<std::string> only;
  app.add_option("--results", results, "writes <path>.json and <path>.md");
  app.add_option("--only", only, "some questions: attend, prompt, commit");
  app.add_flag("--quick", s.quick, "fewer rounds");
  CLI11_PARSE(app, argc, argv);
  try {
    s.card = bench::measure_gpu(s.rounds());
    const std::pair<const char*, void (*)(bench::session&)> questions[] = {
        {"attend", bench::attend}, {"prompt", bench::prompt}, {"commit", bench::commit}};
    for (const auto& [name, ask] : questions) {
      if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
      s.say(name);
      ask(s);
      if (!results.empty()) s.write(results);  // what is there stays there when the next question fails
    }
  } catch (const std::exception& e) {
    std::cerr << "gpu_bench: " << e.what() << "\n";
    return 1;
  }
  return 0;
}
