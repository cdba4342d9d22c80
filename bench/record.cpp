// SPDX-License-Identifier: Apache-2.0
#include "record.hpp"

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "axes.hpp"

namespace bench {
namespace {

using nlohmann::json;

json number(std::optional<double> x) { return x && std::isfinite(*x) ? json(*x) : json(nullptr); }
std::optional<double> number(const json& j, const char* name) {
  const auto found = j.find(name);
  return found == j.end() || found->is_null() ? std::nullopt : std::optional(found->get<double>());
}

json to_json(const record& r) {
  json j = {{"question", r.question},
            {"recipe", r.recipe},
            {"part", r.part},
            {"kv_heads", r.shape.kv_heads},
            {"group", r.shape.group},
            {"head_dim", r.shape.head_dim},
            {"rows", r.rows},
            {"threads", r.threads},
            {"us", r.time.us},
            {"us_low", r.time.low},
            {"us_high", r.time.high},
            {"samples", r.time.samples},
            {"preempted", r.time.preempted},
            {"bytes", r.bytes},
            {"error", number(r.error)},
            {"kernel_error", number(r.kernel_error)},
            {"gb_per_s", number(r.gb_per_s)},
            {"of_bandwidth", number(r.of_bandwidth)},
            {"of_peak", number(r.of_peak)},
            {"vs_dense_f16", number(r.vs_dense_f16)},
            {"vs_reference", number(r.vs_reference)},
            {"also", r.also}};
  if (r.vs_ggml) j["vs_ggml"] = number(r.vs_ggml);
  return j;
}

record from_json(const json& j) {
  record r;
  r.question = j.at("question"), r.recipe = j.at("recipe"), r.part = j.at("part");
  r.shape = {j.at("kv_heads"), j.at("group"), j.at("head_dim")};
  r.rows = j.at("rows"), r.threads = j.at("threads"), r.bytes = j.at("bytes");
  r.time = {j.at("us"), j.at("us_low"), j.at("us_high"), j.at("samples"), j.at("preempted")};
  r.error = number(j, "error"), r.kernel_error = number(j, "kernel_error");
  r.gb_per_s = number(j, "gb_per_s"), r.of_bandwidth = number(j, "of_bandwidth"), r.of_peak = number(j, "of_peak");
  r.vs_dense_f16 = number(j, "vs_dense_f16"), r.vs_reference = number(j, "vs_reference");
  r.vs_ggml = number(j, "vs_ggml"), r.also = j.at("also").get<std::map<std::string, double>>();
  return r;
}

std::string printed(const char* format, std::optional<double> x, double times = 1) {
  if (!x) return "";
  char text[64];
  std::snprintf(text, sizeof text, format, *x * times);
  return text;
}

/// 12.3 us, 4.56 ms.
std::string duration(double us) {
  return us < 1000 ? printed(us < 10 ? "%.2f us" : "%.1f us", us) : printed(us < 1e6 ? "%.2f ms" : "%.0f ms", us, 1e-3);
}

struct column {
  std::string name;
  std::function<std::string(const record&)> cell;
};

std::string table(const std::vector<column>& columns, const std::vector<const record*>& rows) {
  std::string head = "| recipe |", line = "|---|", body;
  std::vector<std::vector<std::string>> cells;
  std::vector<bool> used(columns.size(), false);
  for (const record* r : rows) {
    cells.emplace_back();
    for (std::size_t c = 0; c < columns.size(); ++c) {
      cells.back().push_back(columns[c].cell(*r));
      used[c] = used[c] || !cells.back().back().empty();
    }
  }
  for (std::size_t c = 0; c < columns.size(); ++c)
    if (used[c]) head += " " + columns[c].name + " |", line += "---:|";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    body += "| `" + rows[i]->recipe + "` |";
    for (std::size_t c = 0; c < columns.size(); ++c)
      if (used[c]) body += " " + (cells[i][c].empty() ? "–" : cells[i][c]) + " |";
    body += "\n";
  }
  return head + "\n" + line + "\n" + body;
}

const std::vector<column>& columns() {
  const auto also = [](const char* name, const char* format, double times = 1) {
    return [=](const record& r) {
      const auto found = r.also.find(name);
      return found == r.also.end() ? std::string() : printed(format, found->second, times);
    };
  };
  static const std::vector<column> all = {
      {"time", [](const record& r) { return duration(r.time.us); }},
      {"quartiles",
       [](const record& r) {
         return printed("%+.0f", 100 * (r.time.low / r.time.us - 1)) + " / " +
                printed("%+.0f %%", 100 * (r.time.high / r.time.us - 1));
       }},
      {"MB", [](const record& r) { return r.bytes == 0 ? "" : printed("%.1f", 1e-6 * static_cast<double>(r.bytes)); }},
      {"error", [](const record& r) { return printed("%.1e", r.error); }},
      {"of the kernel", [](const record& r) { return printed("%.1e", r.kernel_error); }},
      {"ns / (row, query head)", also("ns_per_row_head", "%.3f")},
      {"ns / value", also("ns_per_value", "%.2f")},
      {"GB/s", [](const record& r) { return printed("%.1f", r.gb_per_s); }},
      {"of bandwidth", [](const record& r) { return printed("%.0f %%", r.of_bandwidth, 100); }},
      {"of peak", [](const record& r) { return printed("%.0f %%", r.of_peak, 100); }},
      {"vs dense f16", [](const record& r) { return printed("%.2fx", r.vs_dense_f16); }},
      {"vs reference", [](const record& r) { return printed("%.1fx", r.vs_reference); }},
      {"vs ggml", [](const record& r) { return printed("%.1fx", r.vs_ggml); }},
      {"vs the same without", also("vs_plain", "%.2fx")},
      {"signal, of attention", also("signal_share", "%.1f %%", 100)},
      {"of the prompt's attention", also("of_prompt", "%.1f %%", 100)},
      {"GFLOP/s", also("gflops", "%.0f")},
  };
  return all;
}

json machine_json(const machine& m) {
  return {{"cpu", m.cpu},
          {"compiler", m.compiler},
          {"isa", m.isa},
          {"last_level_cache", m.last_level_cache},
          {"bandwidth", m.bandwidth},
          {"integer_peak", m.integer_peak},
          {"float_peak", m.float_peak}};
}

}  // namespace

bool options::wants(const std::string& recipe) const {
  return only.empty() || recipe == "dense f16" ||
         std::any_of(only.begin(), only.end(), [&](const auto& o) { return recipe.find(o) != std::string::npos; });
}

session::session(std::string question, const options& wanted)
    : question_(std::move(question)), wanted_(wanted), machine_(describe_machine()),
      thread_counts_(wanted.threads.empty() ? all_threads : wanted.threads),
      team_(*std::max_element(thread_counts_.begin(), thread_counts_.end())),
      stream_(machine_.last_level_cache, memory()) {
  if (wanted_.threads.empty())  // no more than there are
    std::erase_if(thread_counts_, [](int n) { return n > static_cast<int>(std::thread::hardware_concurrency()); });
  const int most = *std::max_element(thread_counts_.begin(), thread_counts_.end());
  measure_machine(machine_, stream_, team_, most);
  say(machine_.cpu + ", " + machine_.compiler + ", " + machine_.isa);
  for (int n = 1; n <= most; ++n) {
    const auto u = static_cast<std::size_t>(n);
    say("  " + std::to_string(n) + (n == 1 ? " thread:  " : " threads: ") +
        printed("%.1f GB/s read, ", machine_.bandwidth[u]) +
        printed("%.0f G integer operations/s, ", machine_.integer_peak[u]) +
        printed("%.0f GFLOP/s", machine_.float_peak[u]));
  }
}

void session::say(const std::string& line) const { std::cout << line << std::endl; }
void session::note(const std::string& line) {
  if (std::find(notes_.begin(), notes_.end(), line) != notes_.end()) return;
  say("note: " + line);
  notes_.push_back(line);
}

record session::timed(const std::string& recipe, const std::string& part, head_shape shape, int rows, int threads,
                      const timing& time) const {
  record r;
  r.question = question_, r.recipe = recipe, r.part = part, r.shape = shape, r.rows = rows, r.threads = threads;
  r.time = time;
  return r;
}

int session::finish() {
  const run_of_question run{question_, machine_, records_, notes_};
  std::cout << "\n" << tables(run) << std::flush;
  if (wanted_.json.empty()) return 0;
  json out = {{"question", question_}, {"machine", machine_json(machine_)}, {"notes", notes_}};
  out["records"] = json::array();
  for (const record& r : records_) out["records"].push_back(to_json(r));
  std::ofstream file(wanted_.json);
  file << out.dump(1) << "\n";
  if (!file.flush()) {
    std::cerr << "Cannot write " << wanted_.json << "\n";
    return 1;
  }
  return 0;
}

int run(const std::string& question, int argc, char** argv, const std::function<void(session&)>& measure) {
  options wanted;
  CLI::App app("Benchmarks of tersekv: " + question);
  app.add_option("--json", wanted.json, "write the records to this file");
  app.add_flag("--quick", wanted.quick, "few rows, short runs: shows that it works");
  app.add_flag("--small-pages", wanted.small_pages, "memory of the allocator, not in pages of 2 MiB");
  app.add_option("--seconds", wanted.seconds, "per comparison");
  app.add_option("--only", wanted.only, "recipes whose name contains one of these, and dense f16");
  app.add_option("--rows", wanted.rows, "row counts; prompt: of those that snapkv scores; append has none");
  app.add_option("--threads", wanted.threads, "numbers of threads");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  }
  session s(question, wanted);
  measure(s);
  return s.finish();
}

run_of_question read_run(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("Cannot read " + path.string());
  const json j = json::parse(file);
  run_of_question run;
  run.question = j.at("question");
  const json& m = j.at("machine");
  run.on.cpu = m.at("cpu"), run.on.compiler = m.at("compiler"), run.on.isa = m.at("isa");
  run.on.last_level_cache = m.at("last_level_cache");
  run.on.bandwidth = m.at("bandwidth").get<std::vector<double>>();
  run.on.integer_peak = m.at("integer_peak").get<std::vector<double>>();
  run.on.float_peak = m.at("float_peak").get<std::vector<double>>();
  run.notes = j.at("notes").get<std::vector<std::string>>();
  for (const json& r : j.at("records")) run.records.push_back(from_json(r));
  return run;
}

void write_results(const std::filesystem::path& path, const std::vector<run_of_question>& runs) {
  json out = json::array();
  for (const auto& run : runs)
    for (const record& r : run.records) out.push_back(to_json(r));
  std::ofstream file(path);
  file << out.dump(1) << "\n";
  if (!file.flush()) throw std::runtime_error("Cannot write " + path.string());
}

std::string tables(const run_of_question& run) {
  std::string out;
  std::vector<const record*> rows;
  const auto same = [](const record& a, const record& b) {
    return a.part == b.part && a.shape.kv_heads == b.shape.kv_heads && a.shape.group == b.shape.group &&
           a.rows == b.rows && a.threads == b.threads;
  };
  const auto flush = [&] {
    if (rows.empty()) return;
    const record& r = *rows.front();
    out += "**" + (r.part.empty() ? "" : r.part + ", ") + std::to_string(r.shape.query_heads()) + " query heads, " +
           std::to_string(r.shape.kv_heads) + " KV heads of " + std::to_string(r.shape.head_dim) + ", " +
           std::to_string(r.rows) + " rows, " + std::to_string(r.threads) + (r.threads == 1 ? " thread" : " threads") +
           "**\n\n" + table(columns(), rows) + "\n";
    rows.clear();
  };
  for (const record& r : run.records) {
    if (!rows.empty() && !same(*rows.front(), r)) flush();
    rows.push_back(&r);
  }
  flush();
  for (const std::string& n : run.notes) out += "- " + n + "\n";
  if (!run.notes.empty()) out += "\n";
  return out;
}

}  // namespace bench
