// SPDX-License-Identifier: Apache-2.0
// Kernels of policies. Written by cmake/refresh.cmake.
#pragma once

#include <tersekv/budget/ada.cuh>
#include <tersekv/evict/keydiff.cuh>
#include <tersekv/merge/d2o.cuh>
#include <tersekv/merge/weighted_kv.cuh>
#include <tersekv/read/quest.cuh>
