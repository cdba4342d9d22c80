// SPDX-License-Identifier: Apache-2.0
#include <tersekv/layer_plan.hpp>

#include <string>
#include <vector>

#include "catch.hpp"

namespace kv = tersekv;
using Catch::Matchers::Contains;

namespace layer_plan_test {
std::string repeated(int n, const std::string& item) {
  std::string out;
  for (int i = 0; i < n; ++i) out += item;
  return out;
}
TEST_CASE("a layer map is printed as it was read", "[layer_plan]") {
  for (const std::string text : {"0", "0_6_6_6_6_6_6_7", "1_0", "0s_1s_2_2", "0_0_0_3_3_3_7_7",
                                 "0_1s_1s_3s_3s_3s_0_7s_7s_9s_9s_9s_12_13s_13s_15s_15s_15s_12_19s_19s_19s"})
    CHECK(kv::layer_plan::parse(text).text() == text);
}

TEST_CASE("a bad layer map is refused with the item that is wrong", "[layer_plan]") {
  const auto parse = [](const char* text) { return kv::layer_plan::parse(text); };
  CHECK_THROWS_WITH(parse(""), Contains("item 0 of \"\" is \"\""));
  CHECK_THROWS_WITH(parse("0_1_"), Contains("item 2") && Contains("is \"\""));
  CHECK_THROWS_WITH(parse("0__1"), Contains("item 1"));
  CHECK_THROWS_WITH(parse("0_s"), Contains("item 1") && Contains("\"s\""));
  CHECK_THROWS_WITH(parse("0_1ss"), Contains("\"1ss\""));
  CHECK_THROWS_WITH(parse("0_1S"), Contains("\"1S\""));
  CHECK_THROWS_WITH(parse("0_-1"), Contains("\"-1\""));
  CHECK_THROWS_WITH(parse("0 1"), Contains("\"0 1\""));
  CHECK_THROWS_WITH(parse("0_99999999999"), Contains("item 1"));
  CHECK_THROWS_WITH(parse("0_3_1"), Contains("layer 1 reads layer 3") && Contains("layers 0 to 2"));
  CHECK_THROWS_AS(parse("0_3_1"), kv::shape_error);
  CHECK_THROWS_WITH(kv::layer_plan::parse("0s", 0), Contains("the window is 0"));
  CHECK_THROWS_WITH(kv::layer_plan({}), Contains("no layers"));
  CHECK_THROWS_WITH(kv::layer_plan({0}, {}, 0, kv::masked_diagonal::upward_only, 0), Contains("passes is 0"));
}

TEST_CASE("maps can be looked at while compiling", "[layer_plan]") {
  static_assert(kv::layer_plan::items("0_1_1s") == 3);
  static_assert(kv::layer_plan::items("0_1_") == 0 && kv::layer_plan::items("") == 0 &&
                kv::layer_plan::items("0_x") == 0);
  static_assert(kv::layer_plan::largest_item("0_12s_3") == 12);
  SUCCEED();
}

TEST_CASE("slots are numbered by the layer that writes them, and readers find their writer", "[layer_plan]") {
  const auto plan = kv::layer_plan::parse("0_4_4_2_4");  // layer 2 writes and reads above; layer 3 reads layer 2
  CHECK(plan.slots() == 3);
  CHECK(plan.writer(0) == 0);
  CHECK(plan.writer(1) == 2);
  CHECK(plan.writer(2) == 4);
  CHECK(plan.slot(2) == 2);
  CHECK(plan.written_slot(2) == 1);  // not the one it reads
  CHECK(plan.slot(3) == 1);
  CHECK(plan.owns(2));
  CHECK_FALSE(plan.owns(3));
  CHECK(plan.written_slot(3) == -1);
}

TEST_CASE("two layers may read each other's rows", "[layer_plan]") {
  const auto plan = kv::layer_plan::parse("1_0");
  CHECK(plan.slots() == 2);
  CHECK(plan.reads_upward(0));
  CHECK_FALSE(plan.reads_upward(1));
  CHECK(plan.written_slot(0) == 0);
  CHECK(plan.slot(0) == 1);
}

TEST_CASE("the own entry is hidden above the reader, or everywhere", "[layer_plan]") {
  const auto plan = kv::layer_plan::parse("0_2_2");
  CHECK(plan.sees_self(0));
  CHECK_FALSE(plan.sees_self(1));
  CHECK(plan.sees_self(2));
  const auto old = kv::layer_plan::parse("0_2_2", 1, kv::masked_diagonal::everywhere);
  for (int i = 0; i < 3; ++i) CHECK_FALSE(old.sees_self(i));
  CHECK_FALSE(plan == old);
}

TEST_CASE("only the closed range of upward reads is repeated", "[layer_plan]") {
  const auto ranges = [](const std::string& text, int n) {
    std::string out;
    for (const auto& r : kv::layer_plan::parse(text).schedule(n))
      out += std::to_string(r.first) + "-" + std::to_string(r.last) + "x" + std::to_string(r.passes) + " ";
    return out;
  };
  CHECK(ranges("0" + repeated(10, "_10") + repeated(10, "_10") + "_21", 100) == "0-0x1 1-10x9 11-21x1 ");  // 0_10x20_21
  CHECK(ranges("0_6_6_6_6_6_6_7", 100) == "0-0x1 1-6x9 7-7x1 ");
  CHECK(ranges("0_6_6_6_6_6_6_7", 3) == "0-0x1 1-6x3 7-7x1 ");
  CHECK(ranges("0_6_6_6_6_6_6_7", 1) == "0-0x1 1-6x1 7-7x1 ");
  CHECK(ranges("0_3_3_3_5_5_7_7", 100) == "0-0x1 1-3x9 4-5x9 6-7x9 ");
  CHECK(ranges("0_2_4_3_4_5", 100) == "0-0x1 1-4x9 5-5x1 ");  // a range grows with what is read from inside it
  CHECK(ranges("0_1_2", 100) == "0-2x1 ");
  CHECK(ranges("1_0", 100) == "0-1x9 ");
}

TEST_CASE("bottom maps need one pass, every top and middle map needs several", "[layer_plan]") {
  for (const char* text : {"0_1_2_3_3_3_3_3", "0_1_2_2_2_2_2_7", "0_0_2_2_4_4_6_6"})
    CHECK_FALSE(kv::layer_plan::parse(text).cyclic());
  for (const char* text : {"0_1_2_7_7_7_7_7", "0_1_6_6_6_6_6_7", "0_3_3_3_5_5_7_7", "0_1_2_5_5_5_5_5",
                           "0_1_4_4_4_4_4_7", "0_2_2_2_4_4_6_6"})
    CHECK(kv::layer_plan::parse(text).cyclic());
}

TEST_CASE("a window belongs to the reader; a slot keeps what its widest reader sees", "[layer_plan]") {
  // MixAttention: slot 0 is written by layer 0, read by layers 0 and 6; slot 1 by two windowed layers
  const auto mix =
      kv::layer_plan::parse("0_1s_1s_3s_3s_3s_0_7s_7s_9s_9s_9s_12_13s_13s_15s_15s_15s_12_19s_19s_19s", 1024);
  CHECK(mix.retained(0) == 0);
  CHECK(mix.retained(1) == 1024);
  CHECK(mix.window(0) == 0);
  CHECK(mix.window(1) == 1024);
  // the writer is windowed, one reader is not: everything is kept
  const auto uneven = kv::layer_plan::parse("0s_0s_0", 16);
  CHECK(uneven.window(0) == 16);
  CHECK(uneven.window(2) == 0);
  CHECK(uneven.retained(0) == 0);
  // the writer is not windowed but does not read its slot: its suffix says nothing
  CHECK(kv::layer_plan::parse("1s_1s", 16).retained(0) == 16);
  CHECK(kv::layer_plan::parse("1_0s", 16).retained(0) == 16);
}

}  // namespace layer_plan_test
