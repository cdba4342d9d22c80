// SPDX-License-Identifier: Apache-2.0
// What does a decoded token's attention cost on the card, by recipe, against the time that its bytes need?
#include "attend.cuh"
#include "card.cuh"
#include "session.hpp"

namespace bench {
namespace {

constexpr double fixed_us = 6;  // launch, fill, merge

std::string part_of(batch_shape shape, int group) {
  return text(shape) + ", " + std::to_string(group) + " query heads each";
}

/// Recipes whose rows fit together; what does not is said.
std::vector<std::pair<recipe, std::unique_ptr<decoding>>> held(session& s, batch_shape shape) {
  std::vector<recipe> all;
  for (auto* add : {recipes_of_numbers, recipes_of_bytes, recipes_of_few_bits})
    for (recipe& r : add()) all.push_back(std::move(r));
  std::vector<std::pair<recipe, std::unique_ptr<decoding>>> out;
  for (recipe& r : all) {
    const int copies = copies_of(r, shape, s);
    if (!fits(s, r.bytes(shape) * static_cast<std::size_t>(copies), r.name, text(shape))) continue;
    auto made = r.make(shape, copies);
    out.emplace_back(std::move(r), std::move(made));
  }
  return out;
}

}  // namespace

void attend(session& s) {
  s.notes = {
      "Rows of a step are not in L2. MB are the pages that it reads, scales included. The bound is 6 us + bytes / "
      "(share * copy), the share 0.90 for 16 bits, 0.85 for int8, 0.80 for 4 bits, 0.60 for 2",
      "The error is that against the reference kernel; 0.02 or more is a failure"};
  const memory_traffic traffic(s.card.l2);
  for (const batch_shape shape : {batch_shape{32, 8192}, batch_shape{64, 32768}, batch_shape{1, 32768}}) {
    s.say(text(shape));
    const auto recipes = held(s, shape);
    for (const int group : {1, 4, 8}) {
      std::vector<std::unique_ptr<graph>> graphs;
      graphs.push_back(traffic.copy());
      graphs.push_back(traffic.read());
      for (const auto& [r, rows] : recipes) graphs.push_back(rows->steps(group, steps_of(r, shape, s)));
      const auto times = in_turn(graphs, s.rounds());
      const double copy = traffic.rate(times[0]), read = traffic.rate(times[1]);
      const auto add = [&](const std::string& name, const timing& t, std::size_t bytes, double limit, double error) {
        const double rate = 1e-3 * static_cast<double>(bytes) / t.us;
        s.records.push_back({part_of(shape, group),
                             name,
                             t,
                             {{"MB", 1e-6 * static_cast<double>(bytes)},
                              {"GB/s", rate},
                              {"of copy", rate / copy},
                              {"of read", rate / read},
                              {"bound, us", limit},
                              {kept, limit > 0 ? (t.us <= limit ? 1.0 : 0.0) : NAN},
                              {"error", error}}});
      };
      const auto traffic_bytes = [&](std::size_t i, double rate) {
        return static_cast<std::size_t>(1e3 * rate * times[i].us);
      };
      add("copy", times[0], traffic_bytes(0, copy), NAN, NAN);
      add("read", times[1], traffic_bytes(1, read), NAN, NAN);
      for (std::size_t i = 0; i < recipes.size(); ++i) {
        const recipe& r = recipes[i].first;
        const std::size_t bytes = r.bytes(shape);
        const double error = recipes[i].second->error(group);
        add(r.name, times[2 + i], bytes, fixed_us + 1e-3 * static_cast<double>(bytes) / (r.share * copy), error);
        if (!(error < 0.02))
          s.fail("`" + r.name + "`, " + part_of(shape, group) + ": outputs differ from the reference by " +
                 std::to_string(error));
      }
      s.save();
    }
  }
}

}  // namespace bench
