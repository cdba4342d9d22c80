// SPDX-License-Identifier: Apache-2.0
// One recipe on both backends: the same steps keep the same rows and give the same attention.
#pragma once
#include <algorithm>
#include <vector>

#include <tersekv/backend/cuda.cuh>

#include "../../laws/cache.hpp"

#include "simt/sanitizers.hpp"

namespace same {

namespace kv = tersekv;

/// tolerance: of outputs, relative to what the CPU gives; both approximate attention over the same packed rows.
template <class... Ps>
void cache_on(const kv::cuda& device, int protected_rows, double tolerance, Ps... policies) {
  constexpr int part = simt::address_sanitizer ? 6 : 1;  // of the tokens that are decoded
  test::stream s({.layers = 3, .query_heads = 4, .kv_heads = 2, .head_dim = 64}, 240, 7);
  auto here = kv::make_cache(s.shape, kv::cpu{}, policies...);
  auto there = kv::make_cache(s.shape, device, policies...);
  auto a = here.open();
  auto b = there.open();
  if (protected_rows > 0) a.protect(10, 10 + protected_rows), b.protect(10, 10 + protected_rows);
  const auto close = [&](const auto& x, const auto& y) {
    for (std::size_t l = 0; l < x.size(); ++l) {
      const auto rows = x[l].size() / static_cast<std::size_t>(s.shape.value_dim);
      for (std::size_t r = 0; r < rows; ++r) {
        const auto at = static_cast<std::ptrdiff_t>(r) * s.shape.value_dim;
        CAPTURE(l, r, a.length());
        REQUIRE(test::relative_error(y[l].data() + at, x[l].data() + at, s.shape.value_dim) <= tolerance);
      }
    }
  };
  const auto both = [&](auto& x, auto& y, int n, kv::step_options options, int accepted) {
    auto one = x.step(n, options);
    auto two = y.step(n, options);
    const auto wanted = laws::pass(here, one, s, x.length(), n);
    const auto got = laws::pass(there, two, s, y.length(), n);
    close(wanted, got);
    one.commit(accepted), two.commit(accepted);
    REQUIRE(x.length() == y.length());
    for (int slot = 0; slot < here.plan().slots(); ++slot)
      for (int h = 0; h < s.shape.kv_heads; ++h) {
        CAPTURE(slot, h, x.length());
        REQUIRE(x.positions(slot, h) == y.positions(slot, h));
      }
  };
  both(a, b, 50, {.more = true}, 50);
  both(a, b, 41, {}, 41);
  for (int i = 0; i < 12 / part; ++i) both(a, b, 1, {}, 1);
  both(a, b, 4, {.decode = true}, 2);
  {  // a step that is dropped has not happened
    auto dropped = b.step(3, {.decode = true});
    laws::pass(there, dropped, s, b.length(), 3);
  }
  auto c = a.fork();
  auto d = b.fork();
  for (int i = 0; i < 6 / part; ++i) both(c, d, 1, {}, 1);
  for (int i = 0; i < 40 / part; ++i) both(a, b, 1, {}, 1);
  for (int i = 0; i < 3; ++i) both(c, d, 1, {}, 1);
  const kv::report_data x = kv::report(a), y = kv::report(b);
  CHECK(x.rows_kept == y.rows_kept);
  CHECK(x.page_bytes == y.page_bytes);
}
template <class... Ps>
void cache(double tolerance, Ps... policies) {
  cache_on({}, 0, tolerance, policies...);
}

}  // namespace same
