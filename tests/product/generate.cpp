// SPDX-License-Identifier: Apache-2.0
// Writes a pairwise covering of all methods: every pair of methods of different roles stands in at least one recipe
// that must pass laws::cache, or, where the two contradict each other, in one whose first broken rule must be the
// expected fact. Usage: generate <number of files> <folder>; writes product_0.cpp ... there, and device_0.cpp ..., in
// which the recipes run on a device beside the CPU.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

struct method {
  std::string type, value;  // as written in angle brackets, and with its tuning
  bool leaves = true;       // evict: rows leave
  bool single = true;       // evict: single rows leave
  bool comparable = true;   // evict: scores may be compared between heads
  bool folds = false;       // merge
  bool reopens = true;      // codec: single rows may leave packed groups
  bool rewrites = true;     // codec: rows may be rewritten
  bool joint = false;       // budget: compares scores
  bool on_device = true;
  double tolerance = 1;  // codec: of attention; others: 0 = rows are not comparable
  int budget = 0;        // evict
};

method codec(const std::string& type, double tolerance, const std::string& value = "") {
  method m{type, value.empty() ? type + "{}" : value};
  m.tolerance = tolerance;
  return m;
}
method plain(const std::string& type, const std::string& value = "") {
  return {type, value.empty() ? type + "{}" : value};
}
method evict(const std::string& type, const std::string& value, int budget, bool comparable, bool single = true) {
  method m{type, value};
  m.budget = budget, m.comparable = comparable, m.single = single;
  return m;
}

std::vector<std::vector<method>> roles() {
  method keep = plain("kv::keep_all");
  keep.leaves = keep.single = keep.comparable = false;
  method turned =
      evict("kv::cache_positions<kv::streaming_llm>, kv::rope",
            "kv::cache_positions<kv::streaming_llm>{{.sinks = 4, .recent = 20}}, kv::rope{}", 24, false, false);
  turned.tolerance = 0;
  turned.on_device = false;
  method pyramid = plain("kv::pyramid"), ada = plain("kv::ada");
  ada.joint = true;
  method d2o = plain("kv::d2o"), weighted = plain("kv::weighted_kv"), mass = plain("kv::log_mass<kv::d2o>");
  for (method* m : {&d2o, &weighted, &mass}) m->folds = true, m->tolerance = 0;
  // Tolerances are of the worst head on Gaussian rows; an output of zeros has error 1. What a codec's packed rows give
  // exactly is in tests/laws/cached.hpp.
  method sealed = codec("kv::kivi<2, 32, 32, kv::sealed>", 0.99);
  sealed.reopens = false;
  method bare = codec("kv::kivi<4, 32, 0>", 0.25);
  bare.rewrites = false;
  method quest = plain("kv::quest", "kv::quest{.rows = 32}");
  quest.tolerance = 0;
  return {
      {plain("kv::own"), plain("kv::cla<2>"), plain("kv::lckv<2>"), plain("kv::yoco", "kv::yoco{.window = 30}"),
       plain("kv::layer_map<\"0_0_3_3\">"), plain("kv::sandwich_middle<3>")},
      {keep, evict("kv::streaming_llm", "kv::streaming_llm{.sinks = 4, .recent = 20}", 24, false, false), turned,
       evict("kv::h2o", "kv::h2o{.heavy = 16, .recent = 8}", 24, true),
       evict("kv::snapkv", "kv::snapkv{.rows = 40, .window = 8, .when = kv::every(4)}", 44, true),
       evict("kv::tova", "kv::tova{.rows = 24}", 24, false),
       evict("kv::knorm", "kv::knorm{.rows = 24, .recent = 8}", 24, false),
       evict("kv::keydiff", "kv::keydiff{.rows = 24, .recent = 8}", 24, true),
       evict("kv::random_eviction", "kv::random_eviction{.rows = 24, .recent = 8}", 24, true)},
      {plain("kv::uniform"), pyramid, ada},
      {plain("kv::drop"), d2o, weighted, mass},
      {codec("kv::dense<float>", 2e-5), codec("kv::dense<kv::half>", 2e-3), codec("kv::dense<kv::bfloat16>", 2e-2),
       codec("kv::int8<>", 3e-2), codec("kv::int4<>", 0.3), codec("kv::kivi<2, 32, 32>", 0.99),
       codec("kv::kivi<4, 32, 64>", 0.25), sealed, bare, codec("kv::q8_0", 3e-2), codec("kv::q4_0", 0.3),
       codec("kv::keys<kv::int8<>>, kv::values<kv::int4<>>", 0.25, "kv::keys<kv::int8<>>{}, kv::values<kv::int4<>>{}"),
       codec("kv::sinks<4, kv::int4<>>", 0.3), codec("kv::through<kv::hadamard, kv::int4<>>", 0.3)},
      {plain("kv::read_all"), quest},
  };
}

enum : std::size_t { share_role, evict_role, budget_role, merge_role, codec_role, read_role };

using choice = std::vector<int>;  // per role the method's number, -1 = open

/// The fact that is missing, as compose.hpp looks for them; empty when the recipe composes. Open roles do not
/// contradict.
std::string contradiction(const std::vector<std::vector<method>>& all, const choice& c) {
  const auto at = [&](std::size_t r) { return c[r] < 0 ? nullptr : &all[r][static_cast<std::size_t>(c[r])]; };
  const method *e = at(evict_role), *b = at(budget_role), *m = at(merge_role), *k = at(codec_role);
  if (e && !e->leaves && ((m && m->folds) || (b && c[budget_role] != 0))) return "rows_leave";
  if (e && b && b->joint && !e->comparable) return "comparable_scores";
  if (e && k && e->single && !k->reopens) return "single_rows_may_leave";
  if (b && k && b->joint && !k->reopens) return "single_rows_may_leave";  // whose scores compare remove single rows
  if (m && k && m->folds && !k->rewrites) return "rewritable_rows";
  return "";
}

struct pair_of {
  std::size_t r, s;
  int a, b;
  auto operator<=>(const pair_of&) const = default;
};

/// As it is written into a test.
struct recipe {
  std::string types, values, title;
  double tolerance = 1;
  int budget;
  bool on_device = true;

  recipe(const std::vector<std::vector<method>>& all, const choice& c)
      : budget(all[evict_role][static_cast<std::size_t>(c[evict_role])].budget) {
    for (std::size_t r = 0; r < all.size(); ++r) {
      const method& m = all[r][static_cast<std::size_t>(c[r])];
      types += ", " + m.type, values += ", " + m.value;
      if (r == codec_role || m.tolerance == 0) tolerance *= m.tolerance;
      on_device = on_device && m.on_device;
    }
    for (const char x : types) title += x == '"' ? '\'' : x == ',' ? ' ' : x;
  }
};

std::string preamble(const std::string& header) {
  return "// Written by tests/product/generate.cpp.\n#include \"" + header +
         "\"\n#include <tersekv/tersekv.hpp>\nnamespace kv = tersekv;\n\n";
}
}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "usage: generate <files> <folder>\n", 2;
  const int files = std::atoi(argv[1]);
  const auto all = roles();
  std::set<pair_of> open;
  for (std::size_t r = 0; r < all.size(); ++r)
    for (std::size_t s = r + 1; s < all.size(); ++s)
      for (int a = 0; a < static_cast<int>(all[r].size()); ++a)
        for (int b = 0; b < static_cast<int>(all[s].size()); ++b) open.insert({r, s, a, b});

  std::vector<choice> accepted;
  std::vector<std::pair<choice, std::string>> rejected;
  while (!open.empty()) {
    const pair_of first = *open.begin();
    choice c(all.size(), -1);
    c[first.r] = first.a, c[first.s] = first.b;
    const std::string why = contradiction(all, c);
    if (!why.empty()) {
      for (int& x : c) x = std::max(x, 0);
      if (c[evict_role] == 0 && first.r != evict_role && first.s != evict_role) c[evict_role] = 3;  // rows must leave
      rejected.emplace_back(c, why);
      open.erase(first);
      continue;
    }
    const auto gain = [&](std::size_t r, int a) {
      int n = 0;
      for (std::size_t s = 0; s < all.size(); ++s)
        if (s != r && c[s] >= 0)
          n += static_cast<int>(r < s ? open.count({r, s, a, c[s]}) : open.count({s, r, c[s], a}));
      return n;
    };
    for (const std::size_t r : {codec_role, evict_role, share_role, merge_role, budget_role, read_role}) {
      if (c[r] >= 0) continue;
      int best = -1, most = -1;
      for (int a = 0; a < static_cast<int>(all[r].size()); ++a) {
        c[r] = a;
        const bool fits = contradiction(all, c).empty();
        c[r] = -1;
        if (fits && gain(r, a) > most) best = a, most = gain(r, a);
      }
      if (best < 0) return std::cerr << "no method of role " << r << " fits\n", 1;
      c[r] = best;
    }
    for (std::size_t r = 0; r < all.size(); ++r)
      for (std::size_t s = r + 1; s < all.size(); ++s) open.erase({r, s, c[r], c[s]});
    accepted.push_back(c);
  }

  // Recipes of one codec stand in one file: their kernels are compiled once.
  std::sort(accepted.begin(), accepted.end(), [](const choice& a, const choice& b) {
    return std::pair(a[codec_role], a[read_role]) < std::pair(b[codec_role], b[read_role]);
  });
  const auto part = [&](int f) {
    return accepted.size() * static_cast<std::size_t>(f) / static_cast<std::size_t>(files);
  };
  for (int f = 0; f < files; ++f) {
    std::ofstream laws(std::string(argv[2]) + "/product_" + std::to_string(f) + ".cpp");
    std::ofstream device(std::string(argv[2]) + "/device_" + std::to_string(f) + ".cpp");
    laws << preamble("laws/cache.hpp") << "#include \"product/misses.hpp\"\n\n";
    device << preamble("backend/cuda/same_cache.hpp");
    for (std::size_t i = part(f); i < part(f + 1); ++i) {
      const recipe r(all, accepted[i]);
      laws << "TEST_CASE(\"" << i << ":" << r.title << " keeps the laws\", \"[product]\") {\n"
           << "  static_assert(kv::composes<kv::cpu" << r.types << ">);\n"
           << "  laws::cache(" << r.budget << ", " << r.tolerance << r.values << ");\n}\n";
      if (r.on_device)
        device << "TEST_CASE(\"" << i << ":" << r.title << " is the same on a device\", \"[product]\") {\n"
               << "  same::recipe(" << r.values.substr(2) << ");\n}\n";
      else
        device << "static_assert(!std::is_same_v<kv::detail::device_flaw<kv::cuda" << r.types
               << ">::type, kv::no_flaw>);\n";
    }
    for (std::size_t i = static_cast<std::size_t>(f); i < rejected.size(); i += static_cast<std::size_t>(files))
      laws << "static_assert(test::misses<kv::fact::" << rejected[i].second << ", kv::detail::first_broken<1, kv::cpu"
           << recipe(all, rejected[i].first).types << ">::type>);\n";
  }
  std::cout << accepted.size() << " recipes keep the laws, " << rejected.size() << " are refused\n";
}
