// SPDX-License-Identifier: Apache-2.0
// What every merge policy promises, called by itself on one head.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "catch.hpp"
#include "support.hpp"

namespace laws {

namespace kv = tersekv;

/// One head's rows and everything that a merger is handed. Rows outside `leaving` stay.
struct fold_case {
  int n, dim, columns;
  std::vector<float> keys, values, state, bias;  // bias is empty unless the test fills it
  std::vector<int> position, leave, stay;
  std::vector<kv::protection> guard;
  std::vector<unsigned char> writable, changed;

  fold_case(int n, int dim, std::vector<int> leaving, int columns = 0, unsigned seed = 1)
      : n(n), dim(dim), columns(columns), keys(test::normal(static_cast<std::size_t>(n * dim), seed)),
        values(test::normal(static_cast<std::size_t>(n * dim), seed + 1000)), position(static_cast<std::size_t>(n)),
        leave(std::move(leaving)), guard(static_cast<std::size_t>(n), kv::protection::none),
        writable(static_cast<std::size_t>(n), 1), changed(static_cast<std::size_t>(n), 0) {
    std::iota(position.begin(), position.end(), 0);
    for (int i = 0; i < n; ++i)
      if (!std::binary_search(leave.begin(), leave.end(), i)) stay.push_back(i);
    for (int i = 0; i < n * columns; ++i)
      state.push_back(columns == 2 && i % 2 == 1 ? static_cast<float>(n) : 0.1f + 0.2f * static_cast<float>(i % 7));
  }
  kv::fold_head head() {
    kv::fold_head f;
    f.keys = keys, f.values = values, f.position = position, f.leave = leave, f.stay = stay, f.guard = guard;
    f.writable = writable, f.changed = changed, f.state = state, f.bias = bias;
    f.key_dim = dim, f.value_dim = dim, f.seen = n;
    return f;
  }
  template <class Merge>
  typename Merge::head_state fold(const Merge& merge, typename Merge::head_state state = {}) {
    kv::fold_head f = head();
    merge.fold(f, state);
    return state;
  }
  std::vector<float> key(int i) const { return row(keys, i); }
  std::vector<float> value(int i) const { return row(values, i); }
  void set(std::vector<float>& to, int i, const std::vector<float>& x) {
    std::copy(x.begin(), x.end(), to.begin() + static_cast<std::ptrdiff_t>(i) * dim);
  }
  /// Row i becomes a copy of row j, key and value.
  void copy(int i, int j) { set(keys, i, key(j)), set(values, i, value(j)); }

 private:
  std::vector<float> row(const std::vector<float>& x, int i) const {
    return {x.begin() + static_cast<std::ptrdiff_t>(i) * dim, x.begin() + static_cast<std::ptrdiff_t>(i + 1) * dim};
  }
};

inline std::vector<int> every_third(int n) {
  std::vector<int> out;
  for (int i = 1; i < n; i += 3) out.push_back(i);
  return out;
}

/// `give(seed)` makes a case in which the policy has something to fold.
template <kv::merger M>
void merger(const M& merge) {
  const int n = 40, dim = 8;
  const auto fresh = [&](std::vector<int> leaving, unsigned seed = 3) {
    fold_case c(n, dim, std::move(leaving), M::columns, seed);
    for (int i = 1; i + 1 < n; i += 6) c.set(c.keys, i, c.key(i + 1));  // some leavers have an equal neighbour
    return c;
  };
  const auto same = [](const fold_case& a, const fold_case& b) {
    return a.keys == b.keys && a.values == b.values && a.state == b.state && a.changed == b.changed;
  };

  SECTION("nothing to fold changes nothing") {
    fold_case c = fresh({}), before = c;
    c.fold(merge);
    CHECK(same(c, before));
  }
  SECTION("rows that are not marked as changed are bit-identical, and only rows that stay are marked") {
    fold_case c = fresh(every_third(n)), before = c;
    c.fold(merge);
    int changed = 0;
    for (int i = 0; i < n; ++i) {
      const bool stays = std::binary_search(c.stay.begin(), c.stay.end(), i);
      if (c.changed[std::size_t(i)]) {
        CHECK(stays);
        ++changed;
      } else {
        CHECK((c.key(i) == before.key(i) && c.value(i) == before.value(i)));
      }
      if (!stays) CHECK((c.key(i) == before.key(i) && c.value(i) == before.value(i)));  // sources are read only
    }
    CHECK(changed > 0);
  }
  SECTION("sinks, rows that the caller protects and rows that cannot be rewritten are left alone") {
    for (const int kind : {0, 1, 2}) {
      fold_case c = fresh(every_third(n));
      for (int i = 0; i < n; i += 2) {
        if (kind == 0) c.guard[std::size_t(i)] = kv::protection::sink;
        if (kind == 1) c.guard[std::size_t(i)] = kv::protection::caller;
        if (kind == 2) c.writable[std::size_t(i)] = 0;
      }
      const fold_case before = c;
      c.fold(merge);
      for (int i = 0; i < n; i += 2) CHECK((c.key(i) == before.key(i) && c.value(i) == before.value(i)));
      CHECK(std::count(c.changed.begin(), c.changed.end(), 1) > 0);
      for (int i = 0; i < n; i += 2) CHECK(c.changed[std::size_t(i)] == 0);
    }
  }
  SECTION("without a row that may take it, nothing is folded") {
    fold_case c = fresh(every_third(n));
    std::fill(c.writable.begin(), c.writable.end(), static_cast<unsigned char>(0));
    const fold_case before = c;
    c.fold(merge);
    CHECK((c.keys == before.keys && c.values == before.values && c.changed == before.changed));
  }
  SECTION("a recent row gives nothing") {
    fold_case c = fresh(every_third(n));
    for (const int e : c.leave) c.guard[std::size_t(e)] = kv::protection::recent;
    const fold_case before = c;
    c.fold(merge);
    CHECK(same(c, before));
  }
  SECTION("the order of tokens in memory is the only order: the same case gives the same bits") {
    fold_case a = fresh(every_third(n)), b = a;
    a.fold(merge), b.fold(merge);
    CHECK(same(a, b));
  }
  SECTION("what has left says nothing: numbers of rows that neither take nor give do not matter") {
    fold_case a = fresh(every_third(n)), b = a;
    a.fold(merge);
    for (int i = 0; i < n; ++i)  // another value where nobody takes or gives
      if (!a.changed[std::size_t(i)] && std::binary_search(b.stay.begin(), b.stay.end(), i))
        b.set(b.values, i, std::vector<float>(std::size_t(dim), 1e30f));
    b.fold(merge);
    for (int i = 0; i < n; ++i)
      if (a.changed[std::size_t(i)]) CHECK((a.key(i) == b.key(i) && a.value(i) == b.value(i)));
  }
}

}  // namespace laws
