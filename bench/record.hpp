// SPDX-License-Identifier: Apache-2.0
// What a benchmark leaves: records as JSON, and the same as tables in markdown. One table writer serves the terminal
// and bench/RESULTS.md.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "machine.hpp"
#include "measure.hpp"
#include "recipe.hpp"

namespace bench {

struct record {
  std::string question, recipe, part;  // part: what of the question, where it has several
  head_shape shape{};
  int rows = 0, threads = 1;
  timing time;
  std::size_t bytes = 0;  // held, or written
  // Absent where they make no sense.
  std::optional<double> error;         // of the output, relative RMS, against float64 attention over the true rows
  std::optional<double> kernel_error;  // the same against the rows as they are read back
  std::optional<double> gb_per_s, of_bandwidth, of_peak, vs_dense_f16, vs_reference, vs_ggml;
  std::map<std::string, double> also;  // by name: what only this question measures
};

/// What the command line of every benchmark offers.
struct options {
  std::filesystem::path json;
  bool quick = false, small_pages = false;
  double seconds = 0;             // per comparison; 0 = the benchmark's own choice
  std::vector<std::string> only;  // recipes whose name contains one of these
  std::vector<int> rows, threads;
  bool wants(const std::string& recipe) const;
};

/// The run's frame: machine, team, records. Ends by printing the tables and writing the JSON.
class session {
 public:
  session(std::string question, const options& wanted);
  const options& wanted() const { return wanted_; }
  const machine& on() const { return machine_; }
  team& threads() { return team_; }
  /// Where all lies that is read: caches, the stream, ggml's tensors.
  std::pmr::memory_resource* memory() {
    return wanted_.small_pages ? std::pmr::new_delete_resource() : static_cast<std::pmr::memory_resource*>(&pages_);
  }
  kv::cpu backend() {
    return {.memory = memory(),
            .parallel = [this](int n, const std::function<void(int)>& work) { team_.run(n, work); }};
  }
  memory_stream& stream() { return stream_; }
  const std::vector<int>& thread_counts() const { return thread_counts_; }
  std::vector<int> rows_or(std::vector<int> usual) const { return wanted_.rows.empty() ? usual : wanted_.rows; }
  double seconds(double usual) const {
    return wanted_.seconds > 0 ? wanted_.seconds : wanted_.quick ? 0.2 * usual : usual;
  }
  void say(const std::string& line) const;  // progress, to the terminal
  void note(const std::string& line);       // something that the tables must say
  record timed(const std::string& recipe, const std::string& part, head_shape shape, int rows, int threads,
               const timing& time) const;
  void add(record r) { records_.push_back(std::move(r)); }
  /// Prints, writes; the exit code.
  int finish();

 private:
  std::string question_;
  options wanted_;
  machine machine_;
  std::vector<int> thread_counts_;
  team team_;
  kv::huge_pages pages_;
  memory_stream stream_;
  std::vector<record> records_;
  std::vector<std::string> notes_;
};

/// The main of a benchmark: command line, measuring, tables; the exit code.
int run(const std::string& question, int argc, char** argv, const std::function<void(session&)>& measure);

struct run_of_question {
  std::string question;
  machine on;
  std::vector<record> records;
  std::vector<std::string> notes;
};
run_of_question read_run(const std::filesystem::path& json);
/// All records, one list.
void write_results(const std::filesystem::path& json, const std::vector<run_of_question>& runs);
/// The tables of one question.
std::string tables(const run_of_question& run);

/// Multiplications and additions of one decoded token.
inline double operations(const record& r) { return 4.0 * r.rows * r.shape.query_heads() * r.shape.head_dim; }

}  // namespace bench
