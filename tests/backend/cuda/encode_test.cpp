// SPDX-License-Identifier: Apache-2.0
// sanitizers: asan
#include "catch.hpp"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <tersekv/adapt/through.hpp>
#include <tersekv/backend/cuda/encode.cuh>
#include <tersekv/backend/cuda/launch.cuh>
#include <tersekv/tersekv.hpp>

namespace kv = tersekv;
namespace kd = tersekv::detail;

namespace encode_test {

template <class Format>
struct encode_arguments {
  Format f;
  const float* x;
  int dim;
  std::byte* tile;
  int rows, first, count;
  float* scratch;
};
using coders = kd::shared_layout<kd::region<kd::coder, kd::most_coders>>;

template <class Format>
__global__ void encode(encode_arguments<Format> a) {
  const kd::row_floats x{a.scratch, a.dim + 1};
  kd::each_thread(a.count * a.dim, [&](int i) { x.row(i / a.dim)[i % a.dim] = a.x[i]; });
  __syncthreads();
  kd::block_format<Format>::encode(a.f, x, a.dim, a.tile, a.rows, a.first, a.count, coders::get<0>());
}
template <class Format>
__global__ void decode(encode_arguments<Format> a) {
  const kd::row_floats x{a.scratch, a.dim};
  const auto reversed = [&](int k) { return kd::tile_row{a.tile, a.first + a.count - 1 - k}; };
  kd::block_format<Format>::decode(a.f, reversed, a.rows, a.dim, a.count, x);
}
template <class Format>
__global__ void move(encode_arguments<Format> a) {
  const auto odd = [&](int k) { return kd::tile_row{a.tile, 2 * k + 1}; };
  kd::block_format<Format>::move(a.f, odd, a.rows, a.dim, a.count, reinterpret_cast<std::byte*>(a.scratch));
}

std::vector<float> random_rows(int n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(random);
  return x;
}

/// Rows that make grids of their own: zeros of both signs, ties, huge and tiny numbers.
void add_corners(std::vector<float>& x, int dim) {
  const auto n = static_cast<int>(x.size()) / dim;
  for (int r = 0; r < n; ++r)
    for (int c = 0; c < dim; ++c) {
      float& v = x[static_cast<std::size_t>(r * dim + c)];
      if (r % 8 == 1) v = (r * 7 + c * 3) % 5 < 2 ? -0.0f : 0.0f;
      if (r % 8 == 3) v = (c * 5 + r) % 7 < 3 ? -1.5f : 1.5f;
      if (r % 8 == 5) v *= 1e7f;
      if (r % 8 == 6) v *= 1e-20f;
    }
}

template <class Format>
class pages {
 public:
  pages(const Format& f, int rows, int dim) : f_(f), rows_(rows), dim_(dim) {
    host_.assign((f.bytes(rows, dim) + 15) / 16 * 16, std::byte{0});
    device_ = host_;
    scratch_.assign(static_cast<std::size_t>(rows * (dim + 1)) + host_.size() / 4, 0.0f);
  }
  void write(int first, int count, const std::vector<float>& x) {
    f_.encode(x.data(), dim_, host_.data(), rows_, first, count);
    kd::launch(encode<Format>, 1, 64, coders::bytes, nullptr, arguments(x.data(), first, count));
    INFO("rows " << first << " + " << count << ", dim " << dim_);
    REQUIRE(std::memcmp(host_.data(), device_.data(), host_.size()) == 0);
  }
  void read(int first, int count) {
    std::vector<float> x(static_cast<std::size_t>(count * dim_));
    f_.decode(host_.data(), rows_, first, count, dim_, x.data());
    kd::launch(decode<Format>, 1, 64, 0, nullptr, arguments(nullptr, first, count));
    for (int k = 0; k < count; ++k)
      REQUIRE(std::memcmp(x.data() + k * dim_, scratch_.data() + (count - 1 - k) * dim_,
                          static_cast<std::size_t>(dim_) * 4) == 0);
  }
  void move_odd_rows() {
    if constexpr (Format::span == 1) {
      std::vector<std::byte> expected(host_.size(), std::byte{0});
      for (int k = 0; k < rows_ / 2; ++k) f_.move(expected.data(), k, host_.data(), 2 * k + 1, rows_, dim_);
      std::fill(scratch_.begin(), scratch_.end(), 0.0f);
      kd::launch(move<Format>, 1, 64, 0, nullptr, arguments(nullptr, 0, rows_ / 2));
      CHECK(std::memcmp(expected.data(), scratch_.data(), host_.size()) == 0);
    }
  }

 private:
  encode_arguments<Format> arguments(const float* x, int first, int count) {
    return {f_, x, dim_, device_.data(), rows_, first, count, scratch_.data()};
  }
  const Format& f_;
  int rows_, dim_;
  std::vector<std::byte> host_, device_;
  std::vector<float> scratch_;
};

template <class Format>
void same_bytes(const Format& f, int dim) {
  f.check(dim);
  const int span = Format::span, rows = std::lcm(32, span);
  for (const auto schedule : {simt::order::fifo, simt::order::random}) {
    const simt::with settings({.schedule = schedule});
    pages<Format> page(f, rows, dim);
    int first = 0;
    for (const int spans : {1, 1, 3, 7, rows}) {  // row by row, then chunks, then the rest
      const int count = std::min(spans * span, rows - first);
      if (count <= 0) break;
      std::vector<float> x = random_rows(count * dim, static_cast<unsigned>(first + dim));
      if (spans > 1) add_corners(x, dim);
      page.write(first, count, x);
      first += count;
    }
    page.read(0, rows);
    page.read(span == 1 ? 3 : 1, rows / 2);
    page.move_odd_rows();
    page.write(rows / 2 / span * span, span, random_rows(span * dim, 99));  // in place
  }
}

template <class Codec>
void same_bytes(const Codec& codec, std::initializer_list<int> dims) {
  for (const int dim : dims) {
    same_bytes(codec.for_keys(), dim);
    same_bytes(codec.for_values(), dim);
  }
}

TEST_CASE("rows alone are written as on the CPU", "[encode]") {
  same_bytes(kv::int4<>{}, {128, 20});
  same_bytes(kv::int8<>{}, {64, 17});
  same_bytes(kv::affine<2, 32>{}, {96, 16});
  same_bytes(kv::affine<3, 16>{}, {48});
  same_bytes(kv::affine<7, 0>{}, {40});
  same_bytes(kv::affine<5, 2>{}, {80});
  same_bytes(kv::symmetric<4, 64>{}, {128});
  same_bytes(kv::symmetric<6, 0>{}, {33});
}
TEST_CASE("so are rows as other programs exchange them", "[encode]") {
  same_bytes(kv::affine<3, 0, kv::layout::rows>{}, {20});
  same_bytes(kv::symmetric<8, 16, kv::layout::rows>{}, {48});
  same_bytes(kv::basic_q4_0<kv::layout::rows>{}, {64});
  same_bytes(kv::basic_q8_0<kv::layout::rows>{}, {64});
  same_bytes(kv::basic_iq4_nl<kv::layout::rows>{}, {64});
  same_bytes(kv::kivi<3, 32, 0, kv::reopened, kv::layout::rows>{}, {64});
}
TEST_CASE("so are the blocks of ggml", "[encode]") {
  same_bytes(kv::q4_0{}, {128});
  same_bytes(kv::q8_0{}, {64});
  same_bytes(kv::iq4_nl{}, {96});
}
TEST_CASE("so are spans of rows", "[encode]") {
  same_bytes(kv::kivi<2, 32>{}, {64, 20});
  same_bytes(kv::kivi<4, 8, 0>{}, {32});
  same_bytes(kv::kivi<3, 64>{}, {64});
}
TEST_CASE("so are numbers", "[encode]") {
  same_bytes(kv::dense<float>{}, {20});
  same_bytes(kv::dense<kv::half>{}, {20});
  same_bytes(kv::dense<kv::bfloat16>{}, {17});
}
TEST_CASE("so are rows that are transformed first", "[encode]") {
  same_bytes(kv::through<kv::hadamard, kv::int4<>>{}, {128, 24});
  same_bytes(kv::through<kv::hadamard, kv::kivi<2, 32>>{{.seed = 7}, {}}, {96});
}

}  // namespace encode_test
