// SPDX-License-Identifier: Apache-2.0
// What a cache must know about the model.
#pragma once
#include <cmath>
#include <string>

#include <tersekv/error.hpp>

namespace tersekv {

struct model_shape {
  int layers = 0;
  int query_heads = 0;  // a multiple of kv_heads; G = query_heads / kv_heads query heads read one KV head
  int kv_heads = 0;
  int head_dim = 0;   // of queries and keys
  int value_dim = 0;  // of values and outputs; 0 = head_dim
  float scale = 0;    // of the logits; 0 = 1 / sqrt(head_dim)

  int group() const { return query_heads / kv_heads; }

  /// The shape with its defaults filled in; throws shape_error when it is impossible.
  model_shape checked() const {
    model_shape s = *this;
    if (s.value_dim == 0) s.value_dim = s.head_dim;
    if (s.query_heads == 0) s.query_heads = s.kv_heads;
    if (s.layers < 1 || s.kv_heads < 1 || s.head_dim < 1 || s.value_dim < 1 || s.query_heads < 1 ||
        s.query_heads % s.kv_heads != 0)
      throw shape_error("tersekv::model_shape: layers " + std::to_string(layers) + ", query_heads " +
                        std::to_string(query_heads) + ", kv_heads " + std::to_string(kv_heads) + ", head_dim " +
                        std::to_string(head_dim) + ", value_dim " + std::to_string(value_dim) +
                        "; all are >= 1 and query_heads is a multiple of kv_heads");
    if (!std::isfinite(s.scale)) throw shape_error("tersekv::model_shape: scale is not finite");
    if (s.scale == 0) s.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    return s;
  }
};

}  // namespace tersekv
