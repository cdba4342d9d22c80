// SPDX-License-Identifier: Apache-2.0
// What a reader would write first: each row is decoded by its format and meets the queries of its group, dot product by
// dot product, with a running softmax. Plain loops, compiled with the flags of the kernels.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace bench {

/// out[group, dim] = softmax(q k^T / sqrt(dim)) v over rows 0 .. rows of pages page(row).
template <class Format, class Page>
void plain_attention(const Format& format, Page&& page, int rows, const float* q, int group, int dim, float* out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  std::vector<float> key(static_cast<std::size_t>(dim)), value(key.size());
  std::vector<float> top(static_cast<std::size_t>(group), -std::numeric_limits<float>::infinity()), sum(top.size(), 0);
  std::fill_n(out, group * dim, 0.0f);
  for (int r = 0; r < rows; ++r) {
    format.decode_keys(page(r), r % Format::rows, 1, key.data());
    format.decode_values(page(r), r % Format::rows, 1, value.data());
    for (int g = 0; g < group; ++g) {
      const auto u = static_cast<std::size_t>(g);
      float* to = out + g * dim;
      float logit = 0;
      for (int c = 0; c < dim; ++c) logit += q[g * dim + c] * key[static_cast<std::size_t>(c)];
      logit *= scale;
      if (logit > top[u]) {
        const float shrink = std::exp(top[u] - logit);
        sum[u] *= shrink, top[u] = logit;
        for (int c = 0; c < dim; ++c) to[c] *= shrink;
      }
      const float p = std::exp(logit - top[u]);
      sum[u] += p;
      for (int c = 0; c < dim; ++c) to[c] += p * value[static_cast<std::size_t>(c)];
    }
  }
  for (int g = 0; g < group; ++g)
    for (int c = 0; c < dim; ++c) out[g * dim + c] /= sum[static_cast<std::size_t>(g)];
}

}  // namespace bench
