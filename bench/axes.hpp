// SPDX-License-Identifier: Apache-2.0
// What is varied, in one place: shapes, rows, threads, codecs. A codec that is added here appears in the
// tables of attend, append and trim; the others name few of them.
#pragma once
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "recipe.hpp"

namespace bench {

inline constexpr head_shape llama3_8b{8, 4, 128}, llama2_7b{32, 1, 128};  // 32 query heads each
inline constexpr int dim = 128;

inline const std::vector<int> all_rows = {4096, 16384, 65536};
inline const std::vector<int> quick_rows = {4096};
inline const std::vector<int> all_threads = {1, 2};

/// A budget of our own: heads get from a quarter to seven quarters of the rows, and together what uniform gives.
struct uneven {
  using role = kv::role::budget;
  static constexpr std::string_view name = "uneven";
  static constexpr bool needs_scores = false;
  void allocate(const kv::budget_request& request, std::span<int> rows) const {
    const int heads = request.heads();
    for (int h = 0; h < heads; ++h)
      rows[static_cast<std::size_t>(h)] =
          request.rows / 4 + (heads > 1 ? request.rows * 3 / 2 * h / (heads - 1) : request.rows * 3 / 4);
  }
};

/// What is compiled, by translation unit (codecs_*.cpp), so that each codec's kernels are compiled once. A codec: its
/// name, and the ggml type of the nearest bits. dense f16 comes first.
inline constexpr std::tuple numbers{
    codec_entry<kv::dense<kv::half>>{"dense f16", "F16"}, codec_entry<kv::dense<kv::bfloat16>>{"dense bf16", ""},
    codec_entry<kv::dense<float>>{"dense f32", ""},       composition<kv::h2o, kv::dense<kv::half>>{},
    composition<kv::knorm, kv::dense<kv::half>>{},        composition<kv::knorm, uneven, kv::dense<kv::half>>{},
    composition<kv::quest, kv::dense<kv::half>>{},
};
inline constexpr std::tuple eight_bits{
    codec_entry<kv::int8<>>{"int8<>", "Q8_0"},
    codec_entry<kv::q8_0>{"q8_0", "Q8_0"},
    composition<kv::keys<kv::int8<>>, kv::values<kv::int4<>>>{},
};
inline constexpr std::tuple four_bits{
    codec_entry<kv::int4<>>{"int4<>", "Q4_0"},    composition<kv::sinks<4, kv::int4<>>>{},
    composition<kv::h2o, kv::int4<>>{},           composition<kv::knorm, kv::int4<>>{},
    composition<kv::knorm, uneven, kv::int4<>>{}, composition<kv::quest, kv::int4<>>{},
    composition<kv::snapkv, kv::int4<>>{},        composition<kv::streaming_llm, kv::int4<>>{},
};
inline constexpr std::tuple four_bits_per_head{
    codec_entry<kv::int4<0>>{"int4<0>", "Q4_0"},
    codec_entry<kv::symmetric<4, 0>>{"symmetric<4, 0>", "Q4_0"},
    codec_entry<kv::through<kv::hadamard, kv::int4<0>>>{"through<hadamard, int4<0>>", "Q4_0"},
};
inline constexpr std::tuple ggml_four_bits{
    codec_entry<kv::q4_0>{"q4_0", "Q4_0"},
    codec_entry<kv::iq4_nl>{"iq4_nl", "Q4_0"},
};
inline constexpr std::tuple few_bits{
    codec_entry<kv::affine<3, 32>>{"affine<3, 32>", ""},
    codec_entry<kv::affine<2, 0>>{"affine<2, 0>", ""},
    composition<kv::h2o, kv::affine<2, 0>>{},
};
inline constexpr std::tuple kivi{
    codec_entry<kv::kivi<2>>{"kivi<2>", ""},
    codec_entry<kv::kivi<4>>{"kivi<4>", "Q4_0"},
    composition<kv::h2o, kv::kivi<2>>{},
    composition<kv::snapkv, kv::ada, kv::kivi<2>>{},
};
void add_numbers(catalogue& to);
void add_eight_bits(catalogue& to);
void add_four_bits(catalogue& to);
void add_four_bits_per_head(catalogue& to);
void add_ggml_four_bits(catalogue& to);
void add_few_bits(catalogue& to);
void add_kivi(catalogue& to);

inline catalogue& all_of_them() {
  static catalogue all = [] {
    catalogue out;
    for (auto* add : {add_numbers, add_eight_bits, add_four_bits, add_four_bits_per_head, add_ggml_four_bits,
                      add_few_bits, add_kivi})
      add(out);
    return out;
  }();
  return all;
}

/// Multi-head attention at the largest row count takes gigabytes in 16 bit; these stand for the others there.
inline constexpr const char* recipes_of_large[] = {"dense f16", "int8<>",       "int4<>",
                                                   "int4<0>",   "affine<2, 0>", "kivi<2>"};
inline constexpr std::size_t largest_cache = std::size_t{3} << 29;  // 1.5 GiB: what is larger is skipped, and says so

inline constexpr const char* peer_types[] = {"F16", "Q8_0", "Q4_0"};

}  // namespace bench
