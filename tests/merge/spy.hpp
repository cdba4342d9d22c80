// SPDX-License-Identifier: Apache-2.0
// A merge policy that writes down what it was handed and what another one made of it.
#pragma once
#include <map>
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace test {

struct fold_record {
  struct row {
    std::vector<float> key, value, state;
    float bias;
    bool stays;
    bool operator==(const row&) const = default;
  };
  std::map<int, row> before, after;  // by position
};

template <class Merge>
struct spy {
  using role = tersekv::role::merge;
  using needs = tersekv::list<tersekv::fact::attention_mass>;
  using head_state = typename Merge::head_state;
  static constexpr std::string_view name = "spy";
  static constexpr int columns = Merge::columns;
  static constexpr bool folds = true;

  Merge merge = {};
  std::vector<fold_record>* log = nullptr;

  void observe(std::span<float> row, const tersekv::observation& o) const {
    tersekv::detail::observe_row(merge, row, o);
  }
  void fold(tersekv::fold_head& head, head_state& state) const {
    fold_record record;
    record.before = rows(head);
    merge.fold(head, state);
    record.after = rows(head);
    if (log) log->push_back(std::move(record));
  }

 private:
  static std::map<int, fold_record::row> rows(const tersekv::fold_head& head) {
    std::map<int, fold_record::row> out;
    const auto copy = [](std::span<const float> x) { return std::vector<float>(x.begin(), x.end()); };
    for (int i = 0; i < static_cast<int>(head.position.size()); ++i) {
      const auto u = static_cast<std::size_t>(i);
      out[head.position[u]] = {copy(head.key(i)), copy(head.value(i)), copy(head.state.subspan(u * columns, columns)),
                               head.bias.empty() ? 0.0f : head.bias[u], false};
    }
    for (const int i : head.stay) out[head.position[static_cast<std::size_t>(i)]].stays = true;
    return out;
  }
};

/// Folds nothing, but is asked.
struct abstain {
  using role = tersekv::role::merge;
  static constexpr std::string_view name = "abstain";
  static constexpr int columns = 0;
  static constexpr bool folds = true;
  struct head_state {};
  void fold(tersekv::fold_head&, head_state&) const {}
};

}  // namespace test
