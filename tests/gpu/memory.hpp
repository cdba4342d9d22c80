// SPDX-License-Identifier: Apache-2.0
// Tests give kernels what they have on the heap and on the stack. In this program both are memory of the host that a
// GPU reads and writes at the same addresses.
#pragma once

namespace gpu {

/// From here on `new` takes from that memory. Returns why there is none, or null.
const char* open_memory();

/// f(), on a stack in that memory.
int on_own_stack(int (*f)());

}  // namespace gpu
