// SPDX-License-Identifier: Apache-2.0
#pragma once
#define TERSEKV_VERSION_MAJOR 0
#define TERSEKV_VERSION_MINOR 1
#define TERSEKV_VERSION_PATCH 0
#define TERSEKV_VERSION "0.1.0"
