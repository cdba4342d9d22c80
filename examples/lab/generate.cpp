// SPDX-License-Identifier: Apache-2.0
#include "generate.hpp"

#include <algorithm>
#include <ostream>

#include "table.hpp"

namespace lab {
namespace {

constexpr std::size_t column_width = 56;
constexpr std::string_view mark = ">>>";

std::string text_of(const workbench& bench, std::span<const int> tokens) {
  std::string out;
  for (int t : tokens) out += bench.tokenizer.decode(t, false);
  return out;
}

/// Lines of at most column_width characters, broken at spaces; what is not printable is shown as '?'.
std::vector<std::string> wrapped(const std::string& text) {
  std::vector<std::string> lines(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\n') {
      lines.emplace_back();
      continue;
    }
    lines.back() += c < 32 || c > 126 ? '?' : text[i];
    if (lines.back().size() < column_width) continue;
    const std::size_t space = lines.back().find_last_of(' ');
    std::string rest;
    if (space != std::string::npos && space > column_width / 2) {
      rest = lines.back().substr(space + 1);
      lines.back().resize(space);
    }
    lines.push_back(std::move(rest));
  }
  return lines;
}

}  // namespace

continuation continue_text(const workbench& bench, const std::string& recipe, std::span<const int> prompt, int tokens) {
  runner run(bench.model);
  kv::any_cache cache = bench.make(recipe);
  auto chat = cache.open();
  continuation c;
  auto logits = run.feed(cache, chat, prompt);
  for (int i = 0; i < tokens; ++i) {
    c.tokens.push_back(most_likely(logits));
    logits = run.feed(cache, chat, std::span(&c.tokens.back(), 1));
  }
  c.report = chat.report();
  return c;
}

void print_beside(std::ostream& out, const workbench& bench, const std::string& left_name, const continuation& left,
                  const std::string& right_name, const continuation& right) {
  const auto [a, b] = std::mismatch(left.tokens.begin(), left.tokens.end(), right.tokens.begin(), right.tokens.end());
  const auto same = static_cast<std::size_t>(a - left.tokens.begin());
  const bool differ = a != left.tokens.end() || b != right.tokens.end();
  const auto marked = [&](const continuation& c) {
    const std::span<const int> all = c.tokens;
    return wrapped(text_of(bench, all.first(same)) + (differ ? std::string(mark) : "") +
                   text_of(bench, all.subspan(same)));
  };
  const auto line = [&](std::string l, const std::string& r) {
    l.resize(std::max(l.size(), column_width), ' ');
    out << l << " | " << r << "\n";
  };
  const auto held = [](const kv::report_data& r) {
    return fixed(static_cast<double>(r.bytes) / 1024, 1) + " KiB held";
  };
  line(left_name + ", " + held(left.report), right_name + ", " + held(right.report));
  line(std::string(column_width, '-'), std::string(column_width, '-'));
  const auto l = marked(left), r = marked(right);
  for (std::size_t i = 0; i < std::max(l.size(), r.size()); ++i)
    line(i < l.size() ? l[i] : "", i < r.size() ? r[i] : "");
  out << "\n";
  if (differ)
    out << "They part at token " << same + 1 << ", marked " << mark << "\n";
  else
    out << "No difference in " << same << " tokens.\n";
}

}  // namespace lab
