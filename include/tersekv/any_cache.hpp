// SPDX-License-Identifier: Apache-2.0
// A cache chosen at run time, from a string, among recipes that the program lists at compile time:
//
//   tersekv::menu menu;
//   menu.add<tersekv::cpu>();                                          // everything default: spelled "full"
//   menu.add<tersekv::cpu, tersekv::h2o, tersekv::kivi<2>>();          // spelled "h2o=heavy+recent,kivi=2+32+128"
//   tersekv::any_cache cache = menu.make(shape, "kivi=2,h2o=64+64", tersekv::cpu{});
//
// A recipe is policies joined by ',' in any order; a policy is its name and, after '=', its template numbers and then
// its tuning numbers joined by '+'. Numbers at the end may be left out.
#pragma once
#include <any>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <tersekv/cache.hpp>
#include <tersekv/detail/erased_cache.hpp>
#include <tersekv/detail/name.hpp>

namespace tersekv {

class any_batch;

/// The verbs of basic_step, whatever the recipe.
class any_step {
 public:
  using batch = any_batch;
  any_step(std::unique_ptr<detail::erased_step> step, int n) : step_(std::move(step)), n_(n) {}
  void append(int layer, const view& k, const view& v) { step_->append(layer, k, v); }
  void attend(int layer, const view& q, const view& out, std::span<float> log_sum_exp = {}) {
    step_->attend(layer, q, out, log_sum_exp);
  }
  float change(int layer) const { return step_->change(layer); }
  int tokens() const { return n_; }
  void commit() { step_->commit(n_); }
  void commit(int accepted) { step_->commit(accepted); }

 private:
  friend any_batch;
  std::unique_ptr<detail::erased_step> step_;
  int n_;
};

/// What batch.hpp asks of steps that are not known at compile time.
class any_batch {
 public:
  any_batch(const char*, std::span<any_step* const> steps) {
    for (const any_step* step : steps) all_.push_back(step->step_.get());
  }
  void append(int layer, std::span<const view> k, std::span<const view> v) { all_[0]->append(all_, layer, k, v); }
  void attend(int layer, std::span<const view> q, std::span<const view> out) { all_[0]->attend(all_, layer, q, out); }
  void commit(std::span<const int> accepted) { all_[0]->commit(all_, accepted); }

 private:
  std::vector<detail::erased_step*> all_;
};

/// The verbs of basic_sequence.
class any_sequence {
 public:
  explicit any_sequence(std::unique_ptr<detail::erased_sequence> s) : sequence_(std::move(s)) {}
  any_step step(int n, step_options options = {}) { return {sequence_->step(n, options), n}; }
  any_sequence fork() const { return any_sequence(sequence_->fork()); }
  int length() const { return sequence_->length(); }
  std::vector<int> positions(int slot, int head) const { return sequence_->positions(slot, head); }
  void protect(int first, int last) { sequence_->protect(first, last); }
  report_data report() const { return sequence_->report(); }

 private:
  std::unique_ptr<detail::erased_sequence> sequence_;
};

/// The verbs of basic_cache.
class any_cache {
 public:
  explicit any_cache(std::unique_ptr<detail::erased_cache> c) : cache_(std::move(c)) {}
  any_sequence open() { return any_sequence(cache_->open()); }
  const layer_plan& plan() const { return cache_->plan(); }
  bool owns(int layer) const { return plan().owns(layer); }
  std::vector<layer_range> schedule(int n) const { return plan().schedule(n); }
  report_data report() const { return cache_->report(); }

 private:
  std::unique_ptr<detail::erased_cache> cache_;
};

namespace detail {

/// One "name=1+2" of a recipe.
struct recipe_item {
  std::string text;
  std::vector<double> numbers;  // those that the policy's template did not take
};

/// "name=2+32+heavy+recent": template numbers as they are, tuning by name.
template <class P>
std::string spelling() {
  std::string out(P::name);
  char join = out.find('=') == std::string::npos ? '=' : '+';
  const auto add = [&](const std::string& what) { out += join + what, join = '+'; };
  for (const int n : structure_of<P>()) add(std::to_string(n));
  if constexpr (requires(P p) { p.tuning([](const char*, auto&) {}); }) {
    P p{};
    p.tuning([&](const char* field, auto&) { add(field); });
  }
  return out;
}

/// Whether the item names this policy; if so, what is left for its tuning.
template <class P>
bool names(std::string_view item, std::vector<double>& numbers) {
  const std::string_view name = P::name;
  numbers.clear();
  if (item.substr(0, name.size()) != name) return false;
  std::string_view rest = item.substr(name.size());
  if (!rest.empty()) {
    const char join = name.find('=') == std::string_view::npos ? '=' : '+';
    if (rest.front() != join) return false;
    rest.remove_prefix(1);
    for (bool more = true; more;) {
      const std::size_t end = std::min(rest.find('+'), rest.size());
      double x = 0;
      const auto result = std::from_chars(rest.data(), rest.data() + end, x);
      if (result.ec != std::errc() || result.ptr != rest.data() + end || !std::isfinite(x)) return false;
      numbers.push_back(x);
      more = end < rest.size();
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  std::size_t taken = 0;
  for (const int n : structure_of<P>()) {
    if (taken == numbers.size()) break;
    if (numbers[taken++] != n) return false;
  }
  numbers.erase(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(taken));
  return true;
}

/// A policy tuned by the numbers; throws recipe_error when they do not fit.
template <class P>
P tuned(std::string_view item, const std::vector<double>& numbers) {
  P p{};
  std::size_t next = 0;
  if constexpr (requires { p.tuning([](const char*, auto&) {}); })
    p.tuning([&](const char* field, auto& value) {
      if (next == numbers.size()) return;
      const double x = numbers[next++];
      using T = std::remove_cvref_t<decltype(value)>;
      if constexpr (std::is_integral_v<T>)
        if (x != std::floor(x) || std::abs(x) > 1e9)
          throw recipe_error("tersekv::menu: \"" + std::string(item) + "\": " + field + " is a whole number");
      value = static_cast<T>(x);
    });
  if (next != numbers.size())
    throw recipe_error("tersekv::menu: \"" + std::string(item) + "\" has " + std::to_string(numbers.size() - next) +
                       " numbers too many; it is written " + spelling<P>());
  return p;
}

template <class P>
inline constexpr bool is_backend = std::is_same_v<role_of<P>, role::backend>;

}  // namespace detail

class menu {
 public:
  /// Lists a recipe. A recipe that does not compose does not compile.
  template <class... Ps>
  void add() {
    static_assert(sizeof(typename cache<Ps...>::step_type) > 0);
    entry e;
    ((detail::is_backend<Ps> ? void() : e.spelling.push_back(item_spelling<Ps>())), ...);
    if (e.spelling.empty()) e.spelling.push_back("full");
    e.make = [](const std::vector<std::string>& items, const model_shape& shape, const std::any& backend) {
      return make_one<Ps...>(items, shape, backend);
    };
    entries_.push_back(std::move(e));
  }

  /// How the recipes are written: template numbers as numbers, tuning by name.
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const entry& e : entries_) {
      std::string line;
      for (const std::string& item : e.spelling) line += (line.empty() ? "" : ",") + item;
      out.push_back(std::move(line));
    }
    return out;
  }

  /// The cache of a recipe. Throws recipe_error (what is available), shape_error.
  template <class Backend>
  any_cache make(const model_shape& shape, std::string_view recipe, Backend backend) const {
    std::vector<std::string> items;
    for (std::size_t begin = 0; begin <= recipe.size();) {
      const std::size_t end = std::min(recipe.find(',', begin), recipe.size());
      std::string item(recipe.substr(begin, end - begin));
      std::erase(item, ' ');
      if (item.empty()) throw recipe_error("tersekv::menu: \"" + std::string(recipe) + "\" has an empty part");
      items.push_back(std::move(item));
      begin = end + 1;
    }
    for (const entry& e : entries_)
      if (auto made = e.make(items, shape, std::any(backend))) return any_cache(std::move(made));
    std::string message = "tersekv::menu: \"" + std::string(recipe) + "\" is not among the recipes of this program:";
    for (const std::string& name : names()) message += "\n  " + name;
    throw recipe_error(message);
  }

 private:
  struct entry {
    std::vector<std::string> spelling;
    std::function<std::unique_ptr<detail::erased_cache>(const std::vector<std::string>&, const model_shape&,
                                                        const std::any&)>
        make;
  };

  template <class P>
  static std::string item_spelling() {
    if constexpr (detail::is_backend<P>)
      return {};
    else
      return detail::spelling<P>();
  }

  /// Null when the items are not these policies, one each.
  template <class... Ps>
  static std::unique_ptr<detail::erased_cache> make_one(std::vector<std::string> items, const model_shape& shape,
                                                        const std::any& backend) {
    if (!(has_backend<Ps>(backend) && ...)) return nullptr;
    constexpr std::size_t named = (std::size_t{!detail::is_backend<Ps>} + ... + 0);
    if (named == 0) {
      if (items.size() != 1 || items[0] != keep_all::name) return nullptr;
    } else if (items.size() != named || !(matches<Ps>(items) && ...)) {
      return nullptr;
    }
    return std::make_unique<detail::erased_cache_of<cache<Ps...>>>(make_cache(shape, policy<Ps>(items, backend)...));
  }
  template <class P>
  static bool has_backend(const std::any& backend) {
    if constexpr (detail::is_backend<P>)
      return std::any_cast<P>(&backend) != nullptr;
    else
      return true;
  }
  template <class P>
  static bool matches(const std::vector<std::string>& items) {
    if constexpr (detail::is_backend<P>)
      return true;
    else
      return item_of<P>(items) != nullptr;
  }
  template <class P>
  static const std::string* item_of(const std::vector<std::string>& items) {
    std::vector<double> numbers;
    for (const std::string& item : items)
      if (detail::names<P>(item, numbers)) return &item;
    return nullptr;
  }
  template <class P>
  static P policy(const std::vector<std::string>& items, const std::any& backend) {
    if constexpr (detail::is_backend<P>)
      return std::any_cast<P>(backend);
    else {
      const std::string* item = item_of<P>(items);
      std::vector<double> numbers;
      detail::names<P>(*item, numbers);
      return detail::tuned<P>(*item, numbers);
    }
  }

  std::vector<entry> entries_;
};

}  // namespace tersekv
