// SPDX-License-Identifier: Apache-2.0
// One run of the benchmarks on a GPU: what the card can do, what was measured, and the files that tell it.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "../measure.hpp"

namespace bench {

struct gpu {
  std::string name, compiler;
  int major = 0, minor = 0, multiprocessors = 0, driver = 0;
  std::size_t memory = 0, l2 = 0;  // bytes
  // Measured in this run.
  double copy = 0;    // GB/s of a copy within the card, bytes read and bytes written both counted
  double read = 0;    // GB/s
  double tensor = 0;  // TFLOP/s of mma.sync on halves, sums in float
};

/// The column that says whether a bound was kept: 1 or 0.
inline constexpr const char* kept = "kept";

struct record {
  std::string part, recipe;  // part: the shape; it gets a table of its own
  timing time;
  std::vector<std::pair<std::string, double>> numbers;  // columns
};

struct session {
  gpu card;
  bool quick = false, failed = false;
  std::filesystem::path results;  // a folder; empty: nothing is written
  std::string question;           // that is being answered; records and notes are about it
  std::vector<record> records;
  std::vector<std::string> notes;  // what the tables must say besides

  int rounds() const { return quick ? 7 : 31; }
  void say(const std::string& line) const;  // progress
  void note(const std::string& line);       // of a run that went otherwise
  void fail(const std::string& line);       // a note after which the run is not a success
  /// Writes what there is of the question; called after each table, as a run may be cut off.
  void save() const;
};

/// Names, sizes, rates.
gpu measure_gpu(int rounds);
/// Whether the card has so much memory left; where not, a note says that the recipe was left out.
bool fits(session& s, std::size_t bytes, const std::string& recipe, const std::string& part);

// The questions, each with a file of this name.
void attend(session& s);
void prompt(session& s);
void commit(session& s);
void token(session& s);

}  // namespace bench
