// SPDX-License-Identifier: Apache-2.0
#include "attend.hpp"

unit_result attend_portably() { return attend_here(); }
