// SPDX-License-Identifier: Apache-2.0
// Attends one head's packed pages, so that an emulator may count instructions: count <codec> <rows>. Four query heads
// to a KV head, 128 channels. Without arguments: the codecs, one per line.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <tersekv/backend/cpu/packed.hpp>
#include <tersekv/codec/affine.hpp>
#include <tersekv/codec/ggml_q4_0.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/int8.hpp>
#include <tersekv/codec/symmetric.hpp>
#include <tersekv/page_format.hpp>
#include <tersekv/read/read_all.hpp>

namespace kv = tersekv;
using namespace tersekv::detail;

namespace {

constexpr int dim = 128, group = 4;

template <class Codec>
void attend(int rows) {
  using page = kv::page_format<Codec, kv::read_all>;
  using keys = key_kernel<typename page::key_format>;
  const page format(Codec{}, kv::read_all{}, dim, dim);
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> k(std::size_t{page::rows} * dim), v(k.size()), q(std::size_t{group} * padded(dim));
  for (std::vector<float>* x : {&k, &v, &q})
    for (float& y : *x) y = normal(engine) * (x == &q ? 0.25f : 1.0f);
  const auto aligned = [](std::size_t bytes) {
    return static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
  };
  std::byte* bytes = aligned(format.bytes());
  std::memset(bytes, 0, format.bytes());
  format.encode(bytes, 0, page::rows, k.data(), v.data());
  std::byte* query = aligned(keys::query_bytes(format.keys, dim, group));
  const float* row[group];
  for (int r = 0; r < group; ++r) row[r] = q.data() + r * padded(dim);
  keys::template prepare<group>(format.keys, row, dim, query);
  std::vector<int> position(static_cast<std::size_t>(page::rows), 0);
  std::vector<float> out(std::size_t{group} * padded(dim)), maximum(group), sum(group);
  const sight see[group] = {};
  const partial_state state{maximum.data(), sum.data(), out.data(), padded(dim)};
  state.clear(group);
  const auto piece = [&](int n, int count, row_piece* to) {
    for (int i = n; i < n + count; ++i) {
      const int first = i % (page::rows / piece_rows) * piece_rows;
      *to++ = {bytes, first, piece_rows, position.data() + first, nullptr, 0};
    }
  };
  attend_pieces<group>(format, query, 0, rows / piece_rows, rows / piece_rows, piece, see, state, {});
  std::printf("%g\n", static_cast<double>(out[3] / sum[0]));
  std::free(bytes);
  std::free(query);
}

struct {
  const char* name;
  void (*attend)(int);
} const codecs[] = {
    {"int4_per_row", attend<kv::symmetric<4, 0>>},
    {"int4_minimum_per_row", attend<kv::int4<0>>},
    {"q4_0", attend<kv::q4_0>},
    {"int4_groups_of_32", attend<kv::int4<32>>},
    {"int8", attend<kv::int8<>>},
    {"f16", attend<kv::dense<kv::half>>},
    {"2_bits_per_row", attend<kv::affine<2, 0>>},
};

}  // namespace

int main(int argc, char** argv) {
  for (const auto& codec : codecs) {
    if (argc < 3)
      std::printf("%s\n", codec.name);
    else if (std::string(argv[1]) == codec.name)
      codec.attend(std::atoi(argv[2]));
  }
}
