// SPDX-License-Identifier: Apache-2.0
// Recipes as strings.
#include "support.hpp"

#include <tersekv/any_cache.hpp>
#include <tersekv/evict/h2o.hpp>

#include "catch.hpp"

namespace kv = tersekv;

namespace any_cache_test {

const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16};

/// A codec with template numbers, as kivi has them.
template <int A, int B>
struct numbered : kv::dense<float> {
  static constexpr std::string_view name = "numbered";
  static constexpr std::array<int, 2> structure{A, B};
};

kv::menu some() {
  kv::menu menu;
  menu.add<kv::cpu>();
  menu.add<kv::cpu, kv::dense<float>>();
  menu.add<kv::dense<float>, kv::h2o, kv::cpu>();
  menu.add<kv::cpu, numbered<2, 32>>();
  menu.add<kv::cpu, numbered<4, 64>>();
  return menu;
}

std::string refusal(const std::string& recipe) {
  try {
    some().make(shape, recipe, kv::cpu{});
  } catch (const kv::recipe_error& e) {
    return e.what();
  }
  return "";
}

TEST_CASE("a recipe given as a string behaves as the type it names", "[any_cache]") {
  test::stream s(shape, 80, 1);
  auto typed = kv::make_cache(shape, kv::cpu{}, kv::h2o{.heavy = 7, .recent = 5}, kv::dense<float>{});
  auto chat = typed.open();
  kv::any_cache any = some().make(shape, " h2o=7+5, dense=f32", kv::cpu{});
  kv::any_sequence other = any.open();
  for (const int n : {40, 1, 1, 1}) {
    CHECK(test::feed(typed, chat, s, n) == [&] {
      std::vector<float> out(static_cast<std::size_t>(n * 2 * 16));
      auto step = other.step(n);
      step.append(0, s.keys(0, other.length(), n), s.values(0, other.length(), n));
      step.attend(0, s.queries(0, other.length(), n), kv::view(out.data(), n, 2, 16));
      step.commit();
      return std::vector<std::vector<float>>{out};
    }());
  }
  CHECK(other.positions(0, 0) == chat.positions(0, 0));
  CHECK(other.report().bytes == chat.report().bytes);
  CHECK(any.report().tokens == 43);
  kv::any_sequence fork = other.fork();
  CHECK(fork.length() == 43);
  CHECK(any.schedule(5).size() == 1);
  CHECK(any.owns(0));
}

TEST_CASE("a menu lists how its recipes are written", "[any_cache]") {
  CHECK(some().names() ==
        std::vector<std::string>{"full", "dense=f32", "dense=f32,h2o=heavy+recent", "numbered=2+32", "numbered=4+64"});
}

TEST_CASE("numbers at the end may be left out, template numbers select the recipe", "[any_cache]") {
  CHECK_NOTHROW(some().make(shape, "full", kv::cpu{}));
  CHECK_NOTHROW(some().make(shape, "h2o,dense=f32", kv::cpu{}));
  CHECK_NOTHROW(some().make(shape, "dense=f32,h2o=9", kv::cpu{}));
  CHECK_NOTHROW(some().make(shape, "numbered=4", kv::cpu{}));
  CHECK_NOTHROW(some().make(shape, "numbered=4+64", kv::cpu{}));
  CHECK(refusal("numbered=4+32").find("not among the recipes") != std::string::npos);
}

TEST_CASE("what is misspelt is refused with what is available", "[any_cache]") {
  for (const char* bad : {"h20=3,dense=f32", "dense=f32,dense=f32", "h2o=1+2", "full,dense=f32", "dense",
                          "h2o=x,dense=f32", "h2o=,dense=f32"}) {
    CAPTURE(bad);
    CHECK(refusal(bad).find("dense=f32,h2o=heavy+recent") != std::string::npos);
  }
  CHECK(refusal("").find("empty part") != std::string::npos);
  CHECK(refusal("full,").find("empty part") != std::string::npos);
  CHECK(refusal("h2o=1.5+2,dense=f32").find("heavy is a whole number") != std::string::npos);
  CHECK(refusal("h2o=1+2+3,dense=f32").find("1 numbers too many") != std::string::npos);
  CHECK_THROWS_AS(some().make(shape, "h2o=0+0,dense=f32", kv::cpu{}), kv::shape_error);
}

TEST_CASE("no string crashes the recipe parser", "[any_cache]") {
  const kv::menu menu = some();
  const std::string letters = "h2o=+,.0123456789densf32umbrl- \t=@:e";
  std::mt19937 engine(1);
  int made = 0;
  for (int trial = 0; trial < 5000; ++trial) {
    std::string recipe = trial % 2 ? "dense=f32,h2o=12+34" : "numbered=2+32";
    for (int edits = static_cast<int>(engine() % 4); edits > 0; --edits) {
      const std::size_t at = engine() % (recipe.size() + 1);
      if (engine() % 3 == 0)
        recipe.insert(at, 1, letters[engine() % letters.size()]);
      else if (at < recipe.size() && engine() % 2)
        recipe.erase(at, 1);
      else if (at < recipe.size())
        recipe[at] = letters[engine() % letters.size()];
    }
    try {
      menu.make(shape, recipe, kv::cpu{});
      ++made;
    } catch (const kv::recipe_error&) {
    } catch (const kv::shape_error&) {
    }
  }
  CHECK(made > 500);
  CHECK(made < 4500);
}

}  // namespace any_cache_test
