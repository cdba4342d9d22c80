// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <tersekv/any_cache.hpp>

tersekv::any_cache engine_cache(const tersekv::model_shape& shape);
