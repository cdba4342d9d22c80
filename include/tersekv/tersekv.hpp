// SPDX-License-Identifier: Apache-2.0
// Everything public. Written by cmake/refresh.cmake.
#pragma once

#include <tersekv/backend/backend.hpp>
#include <tersekv/backend/cpu.hpp>
#include <tersekv/budget/uniform.hpp>
#include <tersekv/cache.hpp>
#include <tersekv/codec/dense.hpp>
#include <tersekv/codec/facts.hpp>
#include <tersekv/codec/keys_values.hpp>
#include <tersekv/commit.hpp>
#include <tersekv/compose.hpp>
#include <tersekv/config.hpp>
#include <tersekv/core.hpp>
#include <tersekv/error.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/evict/keep_all.hpp>
#include <tersekv/head_rows.hpp>
#include <tersekv/layer_plan.hpp>
#include <tersekv/merge/drop.hpp>
#include <tersekv/number.hpp>
#include <tersekv/page_format.hpp>
#include <tersekv/policy.hpp>
#include <tersekv/pool.hpp>
#include <tersekv/read/read_all.hpp>
#include <tersekv/report.hpp>
#include <tersekv/rotary/rope.hpp>
#include <tersekv/rotary/unknown_rotation.hpp>
#include <tersekv/sequence.hpp>
#include <tersekv/shape.hpp>
#include <tersekv/share/own.hpp>
#include <tersekv/signals.hpp>
#include <tersekv/step.hpp>
#include <tersekv/trim.hpp>
#include <tersekv/version.hpp>
#include <tersekv/view.hpp>
