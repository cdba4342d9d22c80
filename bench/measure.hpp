// SPDX-License-Identifier: Apache-2.0
// Times of candidates that are compared with each other: one run of each in turn, again and again, so that whatever
// else happens on the machine happens to all of them. Medians and quartiles of runs that were not preempted.
//
// Plain drivers instead of a framework: those known to us finish one candidate before they start the next.
#pragma once
#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>
#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#endif

namespace bench {

struct timing {
  double us = 0;             // median
  double low = 0, high = 0;  // quartiles
  int samples = 0, preempted = 0;
  double best = 0;  // shortest

  /// Of one of n parts of a run.
  timing per(int n) const { return {us / n, low / n, high / n, samples, preempted, best / n}; }
};

struct candidate {
  std::string name;
  std::function<void()> run;
  std::function<void()> before = {};  // not timed
  bool always = false;                // runs in every round: it keeps the caches cold for the others
};

inline long preemptions() {
#if defined(__unix__) || defined(__APPLE__)
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
#else
  return 0;
#endif
}

inline double quantile(std::vector<double>& x, double share) {
  if (x.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(x.size() - 1) + 0.5);
  std::nth_element(x.begin(), x.begin() + at, x.end());
  return x[static_cast<std::size_t>(at)];
}

/// Rounds until every candidate has had its share of `seconds`, or 100 runs, and at least `least`.
inline std::vector<timing> interleaved(const std::vector<candidate>& all, double seconds, int least = 5) {
  using clock = std::chrono::steady_clock;
  constexpr int most = 100;
  const double share = 1e6 * seconds / static_cast<double>(std::max<std::size_t>(1, all.size()));
  struct series {
    std::vector<double> whole, disturbed;
    double spent = 0;
    std::size_t samples() const { return whole.size() + disturbed.size(); }
  };
  std::vector<series> times(all.size());
  const auto once = [&](std::size_t i) {
    if (all[i].before) all[i].before();
    const long before = preemptions();
    const auto start = clock::now();
    all[i].run();
    const double us = std::chrono::duration<double, std::micro>(clock::now() - start).count();
    (preemptions() == before ? times[i].whole : times[i].disturbed).push_back(us);
    times[i].spent += us;
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].before) all[i].before();
    all[i].run();  // warms up what is made on first use
  }
  for (int round = 0; round < most; ++round) {
    bool any = false;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool due = static_cast<int>(times[i].samples()) < least || times[i].spent < share;
      if (due || all[i].always) once(i);
      any = any || (due && !all[i].always);
    }
    if (!any) break;
  }
  std::vector<timing> out;
  for (series& s : times) {
    auto& x = s.whole.size() >= 3 ? s.whole : s.disturbed;
    timing t;
    t.samples = static_cast<int>(s.samples()), t.preempted = static_cast<int>(s.disturbed.size());
    if (s.whole.size() < 3) x.insert(x.end(), s.whole.begin(), s.whole.end());
    t.us = quantile(x, 0.5), t.low = quantile(x, 0.25), t.high = quantile(x, 0.75);
    t.best = quantile(x, 0);
    out.push_back(t);
  }
  return out;
}

}  // namespace bench
