// SPDX-License-Identifier: Apache-2.0
#include "attend.hpp"

unit_result attend_with_avx2() { return attend_here(); }
