// SPDX-License-Identifier: Apache-2.0
// Shared memory of the block that runs; under AddressSanitizer with bytes between regions that nobody may touch.
#pragma once
#include <cstddef>

#include "simt/block.hpp"

namespace tersekv::detail {

inline constexpr std::size_t shared_red_zone = simt::address_sanitizer ? 64 : 0;
inline void forbid_shared(void* p, std::size_t bytes) { simt::forbid(p, bytes); }
inline std::byte* shared_base() { return simt::self->block->shared; }

}  // namespace tersekv::detail
