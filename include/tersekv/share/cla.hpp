// SPDX-License-Identifier: Apache-2.0
// tersekv/share/cla.hpp
//
// cla<k>: cross-layer attention: k neighbouring layers read the rows that the lowest of them writes.
//
// Paper     Brandon et al., "Reducing Transformer Key-Value Cache Size with Cross-Layer Attention", NeurIPS 2024,
//           arXiv:2405.12981
// Formula   kv(i) = i - i mod k; when k does not divide the number of layers, the last group is shorter
// Differs   nothing known
// Cost      bytes fall by k; what attention reads does not: every layer reads its slot
// Needs     a model that was trained this way
// With      every eviction policy: the mass of a row is summed over the layers that read it
#pragma once
#include <array>
#include <string_view>
#include <vector>

#include <tersekv/policy.hpp>

namespace tersekv {

template <int K>
struct cla {
  static_assert(K >= 1, "tersekv::cla: the number of layers that share rows is at least 1");
  using role = tersekv::role::share;
  static constexpr std::string_view name = "cla";
  static constexpr std::array<int, 1> structure{K};

  layer_plan plan(int layers) const {
    std::vector<int> kv;
    for (int i = 0; i < layers; ++i) kv.push_back(i - i % K);
    return layer_plan(std::move(kv));
  }
};

}  // namespace tersekv
