// SPDX-License-Identifier: Apache-2.0
//
// A comparison as drawings, SVG files in one folder:
//   perplexity.svg, divergence.svg  quality against bytes per token, one labelled point per recipe
//   passkey.svg                     answers against bytes held; full dot: question seen, ring: unseen
//   passkey_grid.svg                answers by length and depth, one pair of maps per recipe
#pragma once
#include <filesystem>

#include "compare.hpp"

namespace lab {

/// Makes the folder if needed; returns the files written. Throws when it cannot.
std::vector<std::filesystem::path> write_plots(const std::filesystem::path& folder, const comparison& c);

}  // namespace lab
