// SPDX-License-Identifier: Apache-2.0
// tersekv/share/configurations.hpp
//
// pizza_bottom<l>, pizza_top<l>, pizza_middle<l>: l - 1 layers with rows of their own, then one block that shares rows.
// sandwich_bottom<l>, sandwich_top<l>, sandwich_middle<l>: such layers below and above, one block between.
// lasagna_bottom<l>, lasagna_top<l>, lasagna_middle<l>: l groups of neighbouring layers, each sharing rows.
//
// Paper     Wu et al., "A Systematic Study of Cross-Layer KV Sharing for Efficient LLM Inference", NAACL 2025,
//           arXiv:2410.14442
// Formula   layers [a, z] that share read layer a (bottom), z (top) or floor((a + z) / 2) (middle); l layers write
//           sandwich: ceil((l - 1) / 2) layers below the block, floor((l - 1) / 2) above it
//           lasagna: groups as equal as possible, larger ones first; top and middle leave layer 0 by itself
// Differs   for one slot (l = 1) layer 0 joins the block: nothing else is left to share with
// Cost      l / L of the bytes; top and middle need several passes over a prompt, bottom does not
// Needs     a model that was trained this way
// With      lasagna_bottom<L / k> is cla<k>, where k divides L; sandwich_top<w + 1> is lckv<w>
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

enum class partition : unsigned char { pizza, sandwich, lasagna };
enum class shared_layer : unsigned char { bottom, top, middle };

/// One of the nine; written by its name, pizza_bottom<l> to lasagna_middle<l>.
template <partition Cut, shared_layer Target, int Slots>
struct configuration {
  static_assert(Slots >= 1, "tersekv::configuration: at least one layer writes rows");
  using role = tersekv::role::share;
  static constexpr std::string_view name =
      std::array<std::string_view, 9>{
          "pizza_bottom",    "pizza_top",      "pizza_middle", "sandwich_bottom", "sandwich_top",
          "sandwich_middle", "lasagna_bottom", "lasagna_top",  "lasagna_middle"}[static_cast<std::size_t>(Cut) * 3 +
                                                                                 static_cast<std::size_t>(Target)];
  static constexpr std::array<int, 1> structure{Slots};

  int passes = 9;  // over a prompt, at most, where a layer reads one above it
  masked_diagonal diagonal = masked_diagonal::upward_only;

  template <class F>
  void tuning(F&& f) {
    f("passes", passes);
  }

  layer_plan plan(int layers) const {
    if (layers < Slots)
      throw shape_error("tersekv::" + std::string(name) + "<" + std::to_string(Slots) + ">: " + std::to_string(layers) +
                        " layers; at least " + std::to_string(Slots));
    std::vector<int> kv;
    const auto share = [&](int count) {  // the next `count` layers form a group
      const int a = static_cast<int>(kv.size()), z = a + count - 1;
      kv.insert(kv.end(), static_cast<std::size_t>(count),
                Target == shared_layer::bottom ? a
                : Target == shared_layer::top  ? z
                                               : (a + z) / 2);
    };
    const auto own = [&](int count) {
      for (int i = 0; i < count; ++i) share(1);
    };
    if (Cut == partition::lasagna) {
      const int alone = Target != shared_layer::bottom && Slots > 1 ? 1 : 0, groups = Slots - alone;
      own(alone);
      for (int g = 0; g < groups; ++g) share((layers - alone) / groups + (g < (layers - alone) % groups ? 1 : 0));
    } else {
      const int above = Cut == partition::sandwich ? (Slots - 1) / 2 : 0, below = Slots - 1 - above;
      own(below);
      share(layers - below - above);
      own(above);
    }
    return layer_plan(std::move(kv), {}, 0, diagonal, passes);
  }
};

template <int L>
using pizza_bottom = configuration<partition::pizza, shared_layer::bottom, L>;
template <int L>
using pizza_top = configuration<partition::pizza, shared_layer::top, L>;
template <int L>
using pizza_middle = configuration<partition::pizza, shared_layer::middle, L>;
template <int L>
using sandwich_bottom = configuration<partition::sandwich, shared_layer::bottom, L>;
template <int L>
using sandwich_top = configuration<partition::sandwich, shared_layer::top, L>;
template <int L>
using sandwich_middle = configuration<partition::sandwich, shared_layer::middle, L>;
template <int L>
using lasagna_bottom = configuration<partition::lasagna, shared_layer::bottom, L>;
template <int L>
using lasagna_top = configuration<partition::lasagna, shared_layer::top, L>;
template <int L>
using lasagna_middle = configuration<partition::lasagna, shared_layer::middle, L>;

}  // namespace tersekv
