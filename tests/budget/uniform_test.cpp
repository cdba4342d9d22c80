// SPDX-License-Identifier: Apache-2.0
#include <tersekv/budget/uniform.hpp>

#include "laws/budgeter.hpp"

TEST_CASE("uniform obeys the laws of budgets", "[budget]") { laws::budgeter(tersekv::uniform{}, false); }
