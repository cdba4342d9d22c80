// SPDX-License-Identifier: Apache-2.0
// expect: tersekv::cuda: kernels cannot call this policy
#include <tersekv/backend/cuda/device_form.hpp>
#include <tersekv/evict/h2o.hpp>
namespace kv = tersekv;
struct oldest_first {
  using role = kv::role::evict;
  static constexpr int columns = 0;
  kv::trigger when = kv::every_step;
  void score(const kv::scored_head& head, std::span<float> out) const {
    for (std::size_t j = 0; j < out.size(); ++j) out[j] = static_cast<float>(head.position[j]);
  }
  kv::protection protects(kv::row) const { return kv::protection::none; }
  int budget() const { return 8; }
};
#if defined(TERSEKV_REJECT)
using asked = kv::detail::have_device_forms<kv::h2o, oldest_first>;
#else
using asked = kv::detail::have_device_forms<kv::h2o>;
#endif
static_assert(sizeof(asked) > 0);
