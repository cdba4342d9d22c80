// SPDX-License-Identifier: Apache-2.0
// ggml's flash-attention op on the CPU, where CMake found ggml (find_package(ggml)): one token over a cache in the
// layout of the programs that use it, all heads of a token side by side.
#pragma once
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <string>

namespace bench {

#if defined(TERSEKV_BENCH_GGML)
inline constexpr bool has_ggml = true;
#else
inline constexpr bool has_ggml = false;
#endif

class peer_cache {
 public:
  virtual ~peer_cache() = default;
  virtual void attend() = 0;
  virtual void use(int threads) = 0;  // not timed
  virtual std::size_t bytes() const = 0;
  virtual const float* out() const = 0;  // [query_heads, dim]
};

/// What lies in the cache: `block` rows, around and around, until there are `rows`.
struct peer_rows {
  int kv_heads, group, head_dim, block, rows;
  const float* k;  // [block, kv_heads, head_dim]
  const float* v;
  const float* q;  // [query_heads, head_dim]
};
/// `type`: F16, Q8_0, Q4_0.
std::unique_ptr<peer_cache> make_peer(const std::string& type, const peer_rows& rows,
                                      std::pmr::memory_resource* memory);

}  // namespace bench
