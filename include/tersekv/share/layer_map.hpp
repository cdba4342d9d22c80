// SPDX-License-Identifier: Apache-2.0
// tersekv/share/layer_map.hpp
//
// layer_map<"0_0_2_2">: any map from layers to the layers whose rows they read, checked at compile time.
// layer_list: the same from a string that is known at run time.
//
// Paper     Wu et al., "A Systematic Study of Cross-Layer KV Sharing for Efficient LLM Inference", NAACL 2025,
//           arXiv:2410.14442; the notation is that of its code
// Formula   item i of the map is kv(i); a suffix s limits that reader to the newest `window` positions
// Differs   a slot keeps what the widest of its readers sees; the code takes the window from the writer's suffix
// Cost      bytes fall to (layers that are named) / L
// Needs     a model that was trained this way
// With      a map where a layer reads one above it needs several passes over a prompt (lckv)
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

#include <tersekv/detail/name.hpp>
#include <tersekv/policy.hpp>

namespace tersekv {

/// A string literal as a template argument.
template <std::size_t N>
struct fixed_string {
  char text[N] = {};
  consteval fixed_string(const char (&literal)[N]) { std::copy_n(literal, N, text); }
  constexpr std::string_view view() const { return {text, N - 1}; }
};

namespace detail {

inline constexpr std::string_view layer_map_prefix = "layer_map=";

/// parse(), and the map must be as long as the model.
inline layer_plan parse_map(const char* who, std::string_view map, int layers, int window, masked_diagonal diagonal,
                            int passes) {
  layer_plan plan = layer_plan::parse(map, window, diagonal, passes);
  if (plan.layers() != layers)
    throw shape_error(std::string("tersekv::") + who + ": the map \"" + std::string(map) + "\" has " +
                      std::to_string(plan.layers()) + " layers, but the model has " + std::to_string(layers));
  return plan;
}

template <fixed_string Map>
struct map_is_malformed {
  static_assert(never<map_is_malformed>,
                "tersekv::layer_map: a map is layer numbers joined by '_', each with an optional 's', such as "
                "tersekv::layer_map<\"0_0_2s_2s\">.");
};
template <fixed_string Map>
struct map_is_out_of_range {
  static_assert(
      never<map_is_out_of_range>,
      "tersekv::layer_map: an item names a layer that does not exist: a map of n items has layers 0 to n - 1.");
};

}  // namespace detail

template <fixed_string Map>
struct layer_map {
  using role = tersekv::role::share;
  static constexpr int items = layer_plan::items(Map.view());
  using flaw = std::conditional_t<
      items == 0, detail::map_is_malformed<Map>,
      std::conditional_t<(layer_plan::largest_item(Map.view()) < items), no_flaw, detail::map_is_out_of_range<Map>>>;
  static constexpr std::string_view map = Map.view();
  static constexpr std::string_view name = detail::joined_name<&detail::layer_map_prefix, &map>;

  int window = 4096;  // of the readers marked 's'
  int passes = 9;     // over a prompt, at most, where a layer reads one above it
  masked_diagonal diagonal = masked_diagonal::upward_only;

  template <class F>
  void tuning(F&& f) {
    f("window", window);
    f("passes", passes);
  }

  layer_plan plan(int layers) const { return detail::parse_map("layer_map", map, layers, window, diagonal, passes); }
};

struct layer_list {
  using role = tersekv::role::share;

  std::string map;
  int window = 4096;
  int passes = 9;
  masked_diagonal diagonal = masked_diagonal::upward_only;

  layer_plan plan(int layers) const { return detail::parse_map("layer_list", map, layers, window, diagonal, passes); }
};

}  // namespace tersekv
