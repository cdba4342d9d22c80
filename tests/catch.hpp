// SPDX-License-Identifier: Apache-2.0
// Catch2, version 2 or 3, whichever is installed. Every test includes this and nothing else of Catch2.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif
