// SPDX-License-Identifier: Apache-2.0
// What goes wrong on a device is said, and changes nothing.
#include <limits>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tersekv/backend/cuda.cuh>

#include "../../support.hpp"

#include "../../catch.hpp"

namespace kv = tersekv;

namespace errors_test {

const kv::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64};
const kv::model_shape small{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 16};

/// One token with a number in q, k or v replaced; returns what commit says.
template <class Cache>
std::string spoiled(const Cache& cache, typename Cache::sequence_type& sequence, test::stream s, char which) {
  auto& x = which == 'k' ? s.k[1] : which == 'v' ? s.v[1] : s.q[1];
  const int heads = which == 'q' ? 4 : 2, at = sequence.length();
  x[static_cast<std::size_t>((at * heads + 1) * 64 + 7)] = std::numeric_limits<float>::quiet_NaN();
  auto step = sequence.step(1);
  test::run(cache, step, s, at, 1);
  try {
    step.commit();
  } catch (const kv::value_error& e) {
    return e.what();
  }
  return "";
}

/// Refuses one allocation: the one before which `before_refusal` others are granted.
class refusing_resource : public std::pmr::memory_resource {
 public:
  int before_refusal = -1;  // -1 = refuses none
 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (before_refusal >= 0 && before_refusal-- == 0) throw std::bad_alloc();
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

/// What somebody can see of a sequence.
struct seen {
  template <class Sequence>
  explicit seen(const Sequence& of) : length(of.length()) {
    for (int l = 0; l < small.layers; ++l)
      for (int h = 0; h < small.kv_heads; ++h) positions.push_back(of.positions(l, h));
    const kv::report_data report = kv::report(of);
    pages = report.page_bytes, ring = report.ring_bytes;
  }
  int length;
  std::vector<std::vector<int>> positions;
  std::size_t pages, ring;
  bool operator==(const seen&) const = default;
};

/// The last of the given steps, each of so many tokens and all but `decoded` of the prompt, is committed while one of
/// its allocations is refused: each in turn. Returns how many of them made it throw.
template <class... Ps>
int refuse_each(const std::vector<int>& steps, int decoded, Ps... policies) {
  const auto last = steps.size() - 1, prompts = steps.size() - static_cast<std::size_t>(decoded);
  test::stream s(small, 600, 3);
  int thrown = 0;
  for (int n = 0;; ++n) {
    CAPTURE(n);
    refusing_resource memory;
    auto cache = kv::make_cache(small, kv::cuda{.memory = &memory}, policies...);
    auto undisturbed = kv::make_cache(small, kv::cuda{}, policies...);
    auto chat = cache.open(), twin = undisturbed.open();
    const auto options = [&](std::size_t i) { return kv::step_options{.more = i + 1 < prompts}; };
    for (std::size_t i = 0; i <= last; ++i) test::feed(undisturbed, twin, s, steps[i], options(i));
    for (std::size_t i = 0; i < last; ++i) test::feed(cache, chat, s, steps[i], options(i));
    const seen before(chat), after(twin);
    bool refused = false;
    {
      auto step = chat.step(steps[last], options(last));
      test::run(cache, step, s, chat.length(), steps[last]);
      memory.before_refusal = n;
      try {
        step.commit();
      } catch (const std::bad_alloc&) {
        ++thrown;
        REQUIRE(seen(chat) == before);
        step.commit();
        REQUIRE(cache.bytes() <= undisturbed.bytes());
      }
      refused = memory.before_refusal < 0;
      memory.before_refusal = -1;
    }
    REQUIRE(seen(chat) == after);
    REQUIRE(test::feed(cache, chat, s, 1) == test::feed(undisturbed, twin, s, 1));
    if (!refused) return thrown;
  }
}

TEST_CASE("numbers that are not finite are refused by commit, and the sequence stands", "[cuda]") {
  test::stream s(shape, 40, 3);
  auto cache = kv::make_cache(shape, kv::cuda{}, kv::h2o{.heavy = 8, .recent = 8}, kv::int4<>{});
  auto chat = cache.open(), twin = cache.open();
  test::feed(cache, chat, s, 20), test::feed(cache, twin, s, 20);
  for (const char which : {'k', 'v', 'q'}) {
    const std::string said = spoiled(cache, chat, s, which);
    CHECK(said.find(std::string("commit: ") + which + " of layer 1 has NaN or infinity in token 0") !=
          std::string::npos);
    CHECK(chat.length() == 20);
  }
  for (int i = 0; i < 3; ++i) CHECK(test::feed(cache, chat, s, 1) == test::feed(cache, twin, s, 1));
  CHECK(chat.positions(1, 1) == twin.positions(1, 1));
}

TEST_CASE("queries that are not finite are named, whatever kernel meets them", "[cuda]") {
  test::stream s(shape, 80, 3);
  auto cache = kv::make_cache(shape, kv::cuda{}, kv::int4<>{});
  auto chat = cache.open(), other = cache.open();
  using step = decltype(cache)::step_type;
  std::vector<float> out(40 * 4 * 64);
  const auto attend = [&](step& x, int n, bool together) {
    const kv::view q = s.queries(0, 0, n), to(out.data(), n, 4, 64);
    if (!together) return x.attend(0, q, to);
    step* const one = &x;
    kv::attend(std::span<step* const>(&one, 1), 0, std::span<const kv::view>(&q, 1), std::span<const kv::view>(&to, 1));
  };
  for (const int n : {1, 3, 40})  // 40 tokens are a prompt
    for (const bool together : {false, true}) {
      CAPTURE(n, together);
      auto x = chat.step(n, {.decode = true});
      for (int l = 0; l < 2; ++l) x.append(l, s.keys(l, 0, n), s.values(l, 0, n));
      for (const int head : {3, 2}) {
        float& spoiled = s.q[0][static_cast<std::size_t>(((n - 1) * 4 + head) * 64 + 63)];
        const float before = std::exchange(spoiled, -std::numeric_limits<float>::infinity());
        attend(x, n, together);
        std::string said;
        try {
          x.commit();
        } catch (const kv::value_error& e) {
          said = e.what();
        }
        CHECK(said == "tersekv::step::commit: q of layer 0 has NaN or infinity in token " + std::to_string(n - 1) +
                          " of the step, head " + std::to_string(head));
        spoiled = before;
      }
      x.commit(n - 1);  // without the token in question
      auto y = other.step(n, {.decode = true});
      for (int l = 0; l < 2; ++l) y.append(l, s.keys(l, 0, n), s.values(l, 0, n));
      attend(y, n, together);
      y.commit();
    }
  CHECK(chat.length() == 2 * (0 + 2 + 39));
  auto x = chat.step(1);  // a pass that is repeated is judged by the last
  x.append(0, s.keys(0, 0, 1), s.values(0, 0, 1)), x.append(1, s.keys(1, 0, 1), s.values(1, 0, 1));
  s.q[0][5] = std::numeric_limits<float>::quiet_NaN();
  attend(x, 1, false);
  CHECK_THROWS_AS(x.commit(), kv::value_error);
  s.q[0][5] = 0;
  attend(x, 1, false);
  x.commit();
  auto unchecked = kv::make_cache(shape, kv::cuda{.check_numbers = false}, kv::int4<>{});
  auto free = unchecked.open();
  auto z = free.step(1);
  z.append(0, s.keys(0, 0, 1), s.values(0, 0, 1)), z.append(1, s.keys(1, 0, 1), s.values(1, 0, 1));
  s.q[0][5] = std::numeric_limits<float>::quiet_NaN();
  z.attend(0, s.queries(0, 0, 1), kv::view(out.data(), 1, 4, 64));
  z.commit();
}

TEST_CASE("out of memory, the step is still whole and may be tried again", "[cuda]") {
  test::counting_resource memory;
  {
    test::stream s(shape, 400, 3);
    auto cache = kv::make_cache(shape, kv::cuda{.memory = &memory}, kv::int8<>{});
    auto chat = cache.open();
    test::feed(cache, chat, s, 60);
    const std::size_t before = memory.held;
    auto step = chat.step(300);  // which needs longer columns and more pages
    test::run(cache, step, s, 60, 300);
    memory.limit = memory.held;
    CHECK_THROWS(step.commit());
    CHECK(chat.length() == 60);
    memory.limit = 0;
    step.commit();
    CHECK(chat.length() == 360);
    CHECK(chat.rows(0, 0) == 360);
    CHECK(memory.held > before);
  }
  CHECK(memory.held == 0);
}

TEST_CASE("whatever allocation of a commit is refused, it may be tried again", "[cuda]") {
  CHECK(refuse_each({150, 220}, 0, kv::snapkv{.rows = 40, .window = 8}, kv::int8<>{}) > 2);
  CHECK(refuse_each({40, 30}, 0, kv::snapkv{.rows = 400, .window = 8, .when = kv::every_chunk}, kv::int8<>{}) > 0);
  CHECK(refuse_each({40, 1, 90}, 2, kv::h2o{.heavy = 20, .recent = 8}, kv::int4<>{}) > 0);
  CHECK(refuse_each({200}, 0, kv::kivi<2, 32, 0>{}) > 0);
}

TEST_CASE("a limit in bytes holds for pages, windows and columns", "[cuda]") {
  test::stream s(shape, 3000, 3);
  auto cache = kv::make_cache(shape, kv::cuda{.max_bytes = 300000}, kv::int8<>{});
  auto chat = cache.open();
  int fed = 0;
  try {
    for (; fed < 3000; fed += 100) test::feed(cache, chat, s, 100, {.more = true});
  } catch (const kv::capacity_error&) {
  }
  CHECK(fed > 0);
  CHECK(fed < 3000);
  CHECK(chat.length() == fed);
  CHECK(cache.bytes() <= 300000);
}

TEST_CASE("wrong uses are told apart", "[cuda]") {
  test::stream s(shape, 40, 3);
  auto cache = kv::make_cache(shape, kv::cuda{});
  auto chat = cache.open();
  auto step = chat.step(2);
  CHECK_THROWS_AS(chat.fork(), kv::usage_error);
  CHECK_THROWS_AS(step.append(0, s.keys(0, 0, 1), s.values(0, 0, 2)), kv::shape_error);
  std::vector<kv::half> halves(2 * 2 * 64);
  step.append(0, s.keys(0, 0, 2), s.values(0, 0, 2));
  const kv::view other(halves.data(), 2, 2, 64);
  CHECK_THROWS_AS(step.append(1, other, other), kv::usage_error);
  CHECK_THROWS_AS(step.commit(), kv::usage_error);
  CHECK_THROWS_AS(chat.protect(3, 1), kv::shape_error);
}

}  // namespace errors_test
