// SPDX-License-Identifier: Apache-2.0
// Blocks as the reference quantisers of ggml write them (quantize_row_q8_0_ref, quantize_row_q4_0_ref,
// quantize_row_iq4_nl_ref): whole blocks in memory order. Inputs are counting(i) = i - 16 and spread(i) = ((7 i mod 32)
// / 8) - 1, i = 0 .. 31.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace golden {

inline std::vector<float> counting() {
  std::vector<float> x;
  for (int i = 0; i < 32; ++i) x.push_back(static_cast<float>(i - 16));
  return x;
}
inline std::vector<float> spread() {
  std::vector<float> x;
  for (int i = 0; i < 32; ++i) x.push_back(static_cast<float>(7 * i % 32) / 8.0f - 1.0f);
  return x;
}

inline constexpr std::string_view q8_0_counting =
    "083081899199a1a9b1b9c0c8d0d8e0e8f0f8000810182028303840474f575f676f77";
inline constexpr std::string_view q8_0_spread = "cc25d4fa21486ee40b32587ff51c4269df062c5379ef163d63d900274d74ea11375e";
inline constexpr std::string_view q4_0_counting = "0040809191a2a2b3b3c4c4d5d5e6e6f7f7f8";
inline constexpr std::string_view q4_0_spread = "c0b55b380693714a27a58260391694715a28";
inline constexpr std::string_view q4_0_zero = "008088888888888888888888888888888888";  // the scale is -0
inline constexpr std::string_view iq4_nl_counting = "fa2f809091a1b1b2c2c3d3d4e4e5e5f6f7f7";
inline constexpr std::string_view iq4_nl_spread = "aba54b280593613a17b482502906a3614b17";

inline std::string hex(const std::vector<std::byte>& bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    out += "0123456789abcdef"[static_cast<int>(b) >> 4];
    out += "0123456789abcdef"[static_cast<int>(b) & 15];
  }
  return out;
}

}  // namespace golden
