// SPDX-License-Identifier: Apache-2.0
// Compiled once for all test programs: Catch2 2 takes seconds here.
#define CATCH_CONFIG_RUNNER
#include "catch.hpp"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
