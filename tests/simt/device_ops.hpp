// SPDX-License-Identifier: Apache-2.0
// The device operations of tersekv/backend/cuda/ptx_*.cuh, for the CPU. What they do is described there.
#pragma once
#include "simt/ops_arithmetic.hpp"
#include "simt/ops_matrix.hpp"
#include "simt/ops_memory.hpp"
