// SPDX-License-Identifier: Apache-2.0
#include <tersekv/share/cla.hpp>
#include <tersekv/share/configurations.hpp>
#include <tersekv/share/layer_map.hpp>
#include <tersekv/share/lckv.hpp>
#include <tersekv/share/yoco.hpp>

#include "laws/sharer.hpp"

namespace kv = tersekv;
using Catch::Matchers::Contains;

TEST_CASE("a layer map in the type is the map", "[share]") {
  laws::sharer(kv::layer_map<"0_6_6_6_6_6_6_7">{}, 8);
  laws::sharer(kv::layer_map<"1_0">{}, 2);
  laws::sharer_in_a_cache(kv::layer_map<"0_3_3_3_5_5_7_7">{}, 8);
  laws::sharer_in_a_cache(kv::layer_map<"0s_1s_2_2">{.window = 3}, 4);
  CHECK(kv::layer_map<"0s_1">{.window = 7}.plan(2).window(0) == 7);
  CHECK(kv::layer_map<"1_1">{.passes = 3}.plan(2).schedule(100)[0].passes == 3);
  CHECK_FALSE(kv::layer_map<"0_1">{.diagonal = kv::masked_diagonal::everywhere}.plan(2).sees_self(1));
}

TEST_CASE("a layer map for another number of layers is refused", "[share]") {
  CHECK_THROWS_WITH(kv::layer_map<"0_0">{}.plan(3), Contains("\"0_0\" has 2 layers, but the model has 3"));
  CHECK_THROWS_AS(kv::make_cache({.layers = 3, .kv_heads = 1, .head_dim = 4}, kv::cpu{}, kv::layer_map<"0_0">{}),
                  kv::shape_error);
  CHECK_THROWS_WITH(kv::layer_list{"0_0"}.plan(1), Contains("has 2 layers, but the model has 1"));
}

TEST_CASE("a layer list is a map that is known at run time", "[share]") {
  laws::sharer(kv::layer_list{"0_0_2_2"}, 4);
  CHECK(kv::layer_list{"0_3_3_3"}.plan(4) == kv::layer_map<"0_3_3_3">{}.plan(4));
  CHECK_THROWS_WITH(kv::layer_list{"0_zwei"}.plan(2), Contains("\"zwei\""));
}

TEST_CASE("maps have names of their own", "[share]") {
  STATIC_REQUIRE(kv::layer_map<"0_1s">::name == "layer_map=0_1s");
  STATIC_REQUIRE(kv::lckv<2>::name == "lckv");
  STATIC_REQUIRE(kv::lckv<2>::structure[0] == 2);
  STATIC_REQUIRE(kv::lasagna_middle<4>::name == "lasagna_middle");
}

TEST_CASE("the nine configurations of eight layers and four slots are those of the study", "[share]") {
  const auto map = [](const auto& policy) {
    laws::sharer(policy, 8);
    return policy.plan(8).text();
  };
  CHECK(map(kv::pizza_bottom<4>{}) == "0_1_2_3_3_3_3_3");
  CHECK(map(kv::pizza_top<4>{}) == "0_1_2_7_7_7_7_7");
  CHECK(map(kv::pizza_middle<4>{}) == "0_1_2_5_5_5_5_5");
  CHECK(map(kv::sandwich_bottom<4>{}) == "0_1_2_2_2_2_2_7");
  CHECK(map(kv::sandwich_top<4>{}) == "0_1_6_6_6_6_6_7");
  CHECK(map(kv::sandwich_middle<4>{}) == "0_1_4_4_4_4_4_7");
  CHECK(map(kv::lasagna_bottom<4>{}) == "0_0_2_2_4_4_6_6");
  CHECK(map(kv::lasagna_top<4>{}) == "0_3_3_3_5_5_7_7");
  CHECK(map(kv::lasagna_middle<4>{}) == "0_2_2_2_4_4_6_6");
}

TEST_CASE("configurations have as many slots as they say", "[share]") {
  const auto slots = [](const auto& policy, int layers) {
    laws::sharer(policy, layers);
    return policy.plan(layers).slots();
  };
  CHECK(slots(kv::lasagna_top<1>{}, 5) == 1);
  CHECK(slots(kv::lasagna_top<2>{}, 5) == 2);
  CHECK(slots(kv::lasagna_middle<5>{}, 22) == 5);
  CHECK(slots(kv::lasagna_bottom<5>{}, 22) == 5);
  CHECK(slots(kv::sandwich_middle<3>{}, 22) == 3);
  CHECK(slots(kv::pizza_top<8>{}, 8) == 8);
  CHECK_THROWS_WITH(kv::pizza_top<9>{}.plan(8), Contains("pizza_top<9>") && Contains("8 layers"));
}

TEST_CASE("named methods are points among the configurations", "[share]") {
  CHECK(kv::cla<2>{}.plan(8) == kv::lasagna_bottom<4>{}.plan(8));
  CHECK(kv::lckv<2>{}.plan(22) == kv::sandwich_top<3>{}.plan(22));
  CHECK(kv::lckv<10>{}.plan(22) == kv::sandwich_top<11>{}.plan(22));
  CHECK(kv::lckv<0>{}.plan(8) == kv::pizza_top<1>{}.plan(8));
}
