// SPDX-License-Identifier: Apache-2.0
// gpu_bench: every question about kernels, on the first GPU. --results <folder> writes <question>.json and .md there.
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
                        {"question", s.question},
                        {"quick", s.quick},
                        {"notes", s.notes},
                        {"records", nlohmann::json::array()}};
  for (const record& r : s.records) {
    nlohmann::json j = {{"part", r.part},           {"recipe", r.recipe},     {"us", r.time.us},
                        {"us_low", r.time.low},     {"us_high", r.time.high}, {"us_best", r.time.best},
                        {"samples", r.time.samples}};
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
  std::string out =
      "# " + s.question + ": " + c.name + "\n\nWritten by `cmake -P cmake/gpu.cmake`. Ratios are of this run.\n\n- " +
      std::to_string(c.multiprocessors) + " multiprocessors, compute capability " + std::to_string(c.major) + "." +
      std::to_string(c.minor) + ", L2 " + std::to_string(c.l2 >> 20) + " MiB, " + c.compiler + ", driver " +
      std::to_string(c.driver) + "\n- Copy " + text("%.0f GB/s", c.copy) + " (read and written), read " +
      text("%.0f GB/s", c.read) + ", products of halves (`mma.sync`) " + text("%.0f TFLOP/s", c.tensor) + "\n";
  out += "- Candidates of a table run in turn; medians and quartiles of a step\n";
  for (const std::string& n : s.notes) out += "- " + n + "\n";
  std::vector<std::string> order;
  std::map<std::string, std::vector<const record*>> parts;
  for (const record& r : s.records) {
    if (!parts.count(r.part)) order.push_back(r.part);
    parts[r.part].push_back(&r);
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
void session::fail(const std::string& line) {
  note("Failed: " + line);
  failed = true;
}
void session::save() const {
  if (results.empty()) return;
  std::filesystem::create_directories(results);
  const auto write = [&](const char* suffix, const std::string& text) {
    const std::filesystem::path path = results / (question + suffix);
    if (!(std::ofstream(path) << text << std::flush)) throw std::runtime_error("cannot write " + path.string());
  };
  write(".json", to_json(*this).dump(1) + "\n");
  write(".md", to_markdown(*this));
}

}  // namespace bench

int main(int argc, char** argv) {
  const std::map<std::string, void (*)(bench::session&)> questions = {
      {"attend", bench::attend}, {"commit", bench::commit}, {"prompt", bench::prompt}, {"token", bench::token}};
  CLI::App app("Benchmarks of kernels on the first GPU");
  bench::session s;
  std::vector<std::string> only;
  app.add_option("--results", s.results, "a folder: <question>.json and <question>.md are written there");
  app.add_option("--only", only, "some questions")->check(CLI::IsMember(&questions));
  app.add_flag("--quick", s.quick, "fewer rounds");
  CLI11_PARSE(app, argc, argv);
  bool failed = false;
  try {
    s.card = bench::measure_gpu(s.rounds());
    for (const auto& [name, ask] : questions) {
      if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
      s.say(name);
      s.question = name, s.records.clear(), s.notes.clear();
      s.save();  // before anything is measured, as it may turn out that nothing can be written
      try {
        ask(s);
      } catch (const std::exception& e) {
        s.notes.push_back(std::string("It was not finished: ") + e.what());
        s.save();
        throw;
      }
      s.save();
      if (!s.results.empty()) s.say("wrote " + (s.results / name).string() + ".md and .json");
    }
  } catch (const std::exception& e) {
    std::cerr << "gpu_bench: " << e.what() << "\n";
    failed = true;
  }
  return failed || s.failed ? 1 : 0;
}
