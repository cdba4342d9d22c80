// SPDX-License-Identifier: Apache-2.0
// Every vector operation against plain arithmetic. Also compiled for each instruction set: CMakeLists.txt.
#include <tersekv/backend/cpu/simd.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <tersekv/backend/cpu/key_kernel.hpp>
#include <tersekv/backend/cpu/lines_ahead.hpp>
#include <tersekv/backend/cpu/logits.hpp>

#include "kernels.hpp"

namespace kv = tersekv;
using kv::detail::each;
using simd = kv::detail::simd;

namespace simd_test {

constexpr int W = simd::lanes;
constexpr auto lanes = static_cast<std::size_t>(W);
using floats = std::vector<float>;

using test::random_numbers;

floats lanes_of(simd::f32 x) {
  floats out(lanes);
  simd::store(out.data(), x);
  return out;
}
simd::raw raw_of(const std::vector<std::uint8_t>& x) {
  return simd::load_raw(reinterpret_cast<const std::byte*>(x.data()));
}
std::vector<std::uint8_t> bytes_of(simd::raw x) {
  std::vector<std::uint8_t> out(4 * lanes);
  std::memcpy(out.data(), &x, out.size());
  return out;
}
std::vector<std::uint8_t> codes(random_numbers& random, int top) {
  std::vector<std::uint8_t> out(4 * lanes);
  for (auto& x : out) x = static_cast<std::uint8_t>(random.below(top + 1));
  return out;
}

template <int N>
void sums_and_largests(random_numbers& random) {
  simd::f32 x[N];
  std::vector<floats> rows;
  for (int i = 0; i < N; ++i) {
    rows.push_back(random.some(-5, 3));
    x[i] = simd::load(rows.back().data());
  }
  float sum[N + 1], most[N + 1];
  sum[N] = most[N] = 77;
  simd::sums(x, sum);
  simd::largests(x, most);
  CHECK(sum[N] == 77);
  CHECK(most[N] == 77);
  for (int i = 0; i < N; ++i) {
    double want = 0;
    float top = -1e30f;
    for (const float v : rows[static_cast<std::size_t>(i)]) want += static_cast<double>(v), top = std::max(top, v);
    CHECK(sum[i] == Approx(want).margin(1e-5));
    CHECK(simd::sum(x[i]) == Approx(want).margin(1e-5));
    CHECK(most[i] == top);
    CHECK(simd::largest(x[i]) == top);
  }
}

template <class P>
void multiplies(random_numbers& random, int top, int offset, int quads, int rows, bool extreme) {
  CAPTURE(random.seed, P::largest_factor, top, offset, quads, rows, extreme);
  const int padded = (quads + 7) / 8 * 8;
  const auto room = static_cast<std::size_t>(4 * padded + 64);
  std::vector<std::byte> factors(P::bytes(padded, rows) + 256);
  std::vector<std::vector<int>> integers;
  std::vector<kv::detail::start_words> start;
  const floats by = random.some(0.5f, 4, room);  // of every number its own
  for (int r = 0; r < rows; ++r) {
    floats x(room, 0.0f);
    std::vector<int> whole(room, 0);
    const auto largest = static_cast<float>(P::largest_factor);
    for (std::size_t c = 0; c < static_cast<std::size_t>(4 * quads); ++c) {
      x[c] = (extreme ? (r % 2 == 0 ? largest : -largest) : random.between(-largest, largest)) / by[c];
      whole[c] = static_cast<int>(std::nearbyint(x[c] * by[c]));
    }
    const auto sum = kv::detail::factor_rows<P>{factors.data(), padded}.round(
        x.data(), 0, quads, [&](int c) TERSEKV_INLINED { return simd::load(by.data() + c); }, rows, r);
    start.push_back(P::centred(sum, offset));
    integers.push_back(whole);
  }
  std::vector<std::vector<std::uint8_t>> u;
  for (int q = 0; q < quads; ++q) {
    u.push_back(codes(random, top));
    if (extreme)
      for (std::size_t i = 0; i < u.back().size(); ++i) u.back()[i] = static_cast<std::uint8_t>(i % 8 < 4 ? top : 0);
  }
  const auto factor = [&](int q, int r) {
    return P::load(factors.data() + q * P::quad_bytes(rows) + r * P::row_bytes(padded), P::row_bytes(padded));
  };
  for (int r = 0; r < rows; ++r) {
    const auto check = [&](auto sum, int first, int middle) {
      for (int q = first; q < quads; ++q) sum = P::dot(sum, raw_of(u[static_cast<std::size_t>(q)]), factor(q, r));
      const floats got = lanes_of(P::value(sum));
      for (std::size_t i = 0; i < lanes; ++i) {
        std::int64_t want = 0;
        for (std::size_t q = 0; q < static_cast<std::size_t>(quads); ++q)
          for (std::size_t k = 0; k < 4; ++k)
            want += (u[q][4 * i + k] - middle) * integers[static_cast<std::size_t>(r)][4 * q + k];
        CAPTURE(r, i, middle);
        CHECK(got[i] == Approx(static_cast<double>(want)).epsilon(2e-7).margin(0.5));  // rounded to a float
      }
    };
    check(P::start(start[static_cast<std::size_t>(r)]), 0, offset);
    if (quads <= P::quads(top)) check(P::product(raw_of(u[0]), factor(0, r)), 1, simd::origin);
  }
}

/// Sums of as many quads as one may hold, and fewer.
template <class P>
void multiplies_codes(int bits) {
  random_numbers random;
  const int top = (1 << bits) - 1, offset = 1 << (bits - 1);
  for (const int rows : {1, 4, 8})
    for (const int quads : {1, 2, 8, 10, std::min(64, P::quads(offset))})
      for (const bool extreme : {false, true})
        if (quads <= P::quads(offset)) multiplies<P>(random, top, offset, quads, rows, extreme);
}

template <int Width, int K>
void takes_a_field(random_numbers& random) {
  const auto x = codes(random, 255);
  const auto got = bytes_of(simd::field<Width, K>(raw_of(x)));
  CAPTURE(random.seed, Width, K);
  for (std::size_t i = 0; i < got.size(); ++i)
    REQUIRE(static_cast<int>(got[i]) == (x[i] >> (Width * K) & ((1 << Width) - 1)));
}
template <int Low, int High>
void joins(random_numbers& random) {
  const auto low = codes(random, (1 << Low) - 1), high = codes(random, (1 << High) - 1);
  const auto got = bytes_of(simd::join<Low>(raw_of(low), raw_of(high)));
  CAPTURE(random.seed, Low, High);
  for (std::size_t i = 0; i < got.size(); ++i) REQUIRE(static_cast<int>(got[i]) == (low[i] | high[i] << Low));
}

/// Codes that are read from memory field by field; with two places, every second one where it lies.
template <class P, int Bits, int Places>
void reads_fields(random_numbers& random) {
  CAPTURE(random.seed, Bits, Places);
  if constexpr (requires { typename P::template fields<Bits, Places>; }) {
    const auto x = codes(random, 255);
    const typename P::template fields<Bits, Places> word(reinterpret_cast<const std::byte*>(x.data()));
    each<8 / Bits>([&](auto k) {
      const auto got = bytes_of(word.template field<k>());
      for (std::size_t i = 0; i < got.size(); ++i)
        REQUIRE(static_cast<int>(got[i]) == (x[i] >> (Bits * k) & ((1 << Bits) - 1)) << (k % Places * Bits));
    });
  }
}

/// What sums of two places come to.
template <class P>
void adds_places(random_numbers& random) {
  CAPTURE(random.seed);
  if constexpr (requires { P::places(2, 1); }) {
    std::array<std::int16_t, 2 * lanes> first, second;
    const auto whole = [&](bool positive) {
      typename P::acc a, b;
      std::memcpy(&a, first.data(), sizeof(a)), std::memcpy(&b, second.data(), sizeof(b));
      a = positive ? P::whole_positive(a, b) : P::whole(a, b);
      std::array<std::int16_t, 2 * lanes> sum;
      std::memcpy(sum.data(), &a, sizeof(a));
      return sum;
    };
    for (const bool positive : {false, true}) {
      std::array<int, 2 * lanes> want;
      for (std::size_t i = 0; i < want.size(); ++i) {
        const int part = i == 0 ? 8191 : random.below(8192), of_second = positive ? 2 * part : part - part % 2 * 8192;
        want[i] = random.below(32768) - (positive ? 0 : 16384);
        first[i] = static_cast<std::int16_t>(want[i] - of_second);  // wraps around
        second[i] = static_cast<std::int16_t>(4 * of_second);
      }
      const auto got = whole(positive);
      for (std::size_t i = 0; i < want.size(); ++i) REQUIRE(got[i] == want[i]);
    }
  }
}

TEST_CASE("this program runs the instructions that it was compiled for", "[backend]") {
#if defined(TERSEKV_EXPECTED_ISA)
  CHECK(std::string(kv::detail::isa_name) == TERSEKV_EXPECTED_ISA);
#endif
  CHECK(W >= 4);
}

TEST_CASE("vectors of floats compute as floats do", "[backend]") {
  random_numbers random;
  CAPTURE(random.seed);
  for (int round = 0; round < 20; ++round) {
    const floats a = random.some(-9, 9), b = random.some(-9, 9), c = random.some(-9, 9);
    const auto x = simd::load(a.data()), y = simd::load(b.data()), z = simd::load(c.data());
    const floats sum = lanes_of(simd::add(x, y)), difference = lanes_of(simd::sub(x, y)),
                 product = lanes_of(simd::mul(x, y)), both = lanes_of(simd::fma(x, y, z)),
                 most = lanes_of(simd::max(x, y)), fewest = lanes_of(simd::min(x, y)),
                 whole = lanes_of(simd::round(simd::mul(x, simd::set(13)))), size = lanes_of(simd::magnitude(x));
    const auto bits = static_cast<std::uint32_t>(random.engine());
    const floats chosen = lanes_of(simd::select(bits, x, y));
    for (std::size_t i = 0; i < lanes; ++i) {
      CHECK(sum[i] == a[i] + b[i]);
      CHECK(difference[i] == a[i] - b[i]);
      CHECK(product[i] == a[i] * b[i]);
      CHECK(both[i] == Approx(static_cast<double>(a[i]) * static_cast<double>(b[i]) + static_cast<double>(c[i]))
                           .epsilon(1e-6)
                           .margin(1e-5));
      CHECK(most[i] == std::max(a[i], b[i]));
      CHECK(fewest[i] == std::min(a[i], b[i]));
      CHECK(whole[i] == std::nearbyint(a[i] * 13));
      CHECK(size[i] == std::abs(a[i]));
      CHECK(chosen[i] == ((bits >> i & 1u) != 0 ? a[i] : b[i]));
    }
    sums_and_largests<1>(random);
    sums_and_largests<2>(random);
    sums_and_largests<4>(random);
    sums_and_largests<8>(random);
  }
  CHECK(lanes_of(simd::zero()) == floats(lanes, 0.0f));
  CHECK(lanes_of(simd::set(2.5f)) == floats(lanes, 2.5f));
  // -inf, which marks hidden rows, is smaller than anything and survives
  const float low = -std::numeric_limits<float>::infinity();
  CHECK(simd::largest(simd::set(low)) == low);
  CHECK(simd::largest(simd::max(simd::set(low), simd::set(-3e38f))) == -3e38f);
}

TEST_CASE("numbers of 16 bits are loaded as they are, and parts of vectors with zeros behind", "[backend]") {
  random_numbers random;
  CAPTURE(random.seed);
  const floats x = random.some(-100, 100, 2 * lanes);
  const auto check = [&]<class T>(T) {
    std::vector<T> stored(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) stored[i] = kv::from_float<T>(i % 5 == 4 ? 1e-6f * x[i] : x[i]);
    const floats all = lanes_of(simd::load(stored.data() + 1));
    for (std::size_t i = 0; i < lanes; ++i) CHECK(all[i] == kv::to_float(stored[i + 1]));
    for (int n = 0; n < W; ++n) {
      const floats part = lanes_of(simd::load_part(stored.data() + 1, n));
      for (std::size_t i = 0; i < lanes; ++i)
        CHECK(part[i] == (i < static_cast<std::size_t>(n) ? kv::to_float(stored[i + 1]) : 0.0f));
    }
  };
  check(0.0f);
  check(kv::half{});
  check(kv::bfloat16{});
}

/// The largest relative error of 2^x.
template <class Powers>
double worst_power(random_numbers& random) {
  double worst = 0;
  floats x(lanes);
  const auto check = [&] {
    const floats got = lanes_of(simd::exp2<Powers>(simd::load(x.data())));
    for (std::size_t i = 0; i < lanes; ++i) {
      const double want = std::exp2(static_cast<double>(x[i]));
      CAPTURE(x[i], got[i]);
      if (x[i] == 0) REQUIRE(got[i] == 1);
      if (x[i] >= -125)
        worst = std::max(worst, std::abs(static_cast<double>(got[i]) / want - 1));
      else
        REQUIRE((got[i] >= 0 && got[i] <= std::ldexp(1.0002f, -125)));
    }
  };
  for (int round = 0; round < 20000; ++round) {
    for (float& v : x) v = round % 2 == 0 ? random.between(-130, 0) : -std::exp(random.between(-20, 5));
    check();
  }
  for (const float special : {0.0f, -0.0f, -0.5f, -1.5f, -125.0f, -125.5f, -126.0f, -1000.0f, -3e38f,
                              -std::numeric_limits<float>::infinity()}) {
    x.assign(lanes, special);
    check();
  }
  return worst;
}

TEST_CASE("powers of two are as right as they say, and vanish far below", "[backend]") {
  random_numbers random;
  CAPTURE(random.seed);
  CHECK(worst_power<kv::detail::exp2_precise>(random) < 2.5e-7);  // 2.2e-7 was seen
  CHECK(worst_power<kv::detail::exp2_coarse>(random) < 1.03e-4);
}

TEST_CASE("rows of logits become weights, whatever their number", "[backend]") {
  random_numbers random;
  CAPTURE(random.seed);
  constexpr float hidden = -std::numeric_limits<float>::infinity();
  for (const std::size_t n : {0, 1, 3, 4, 15, 16, 17, 100, 128}) {
    floats x = random.some(-20, 5, n), mass = random.some(0, 1, n);
    for (float& y : x)
      if (const int what = random.below(8); what < 3) y = what == 0 ? hidden : what == 1 ? -200.0f : -80.0f;
    CAPTURE(n);
    const int count = static_cast<int>(n);
    CHECK(kv::detail::largest_of(x.data(), count) == (n == 0 ? hidden : *std::max_element(x.begin(), x.end())));
    floats p = x, added = mass;
    const float shift = 5, sum = kv::detail::exp_and_sum(p.data(), count, shift);
    kv::detail::add_exp(x.data(), count, shift, 0.25f, added.data());
    double all = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double want = std::exp(static_cast<double>(x[i] - shift));
      all += want;
      if (x[i] < -100) CHECK(p[i] == 0);
      CHECK(static_cast<double>(p[i]) == Approx(want).epsilon(5e-6).margin(1e-37));
      CHECK(static_cast<double>(added[i]) == Approx(static_cast<double>(mass[i]) + want / 4).epsilon(1e-6));
    }
    CHECK(static_cast<double>(sum) == Approx(all).epsilon(1e-5).margin(1e-37));
  }
}

TEST_CASE("rows between two positions are found", "[backend]") {
  random_numbers random;
  CAPTURE(random.seed);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::int32_t> p(lanes);
    for (auto& x : p) x = random.below(4) == 0 ? -1 : random.below(20);
    const int low = random.below(10), high = round % 7 == 0 ? 1 << 30 : low + random.below(8) - 1;
    const std::uint32_t got = simd::between(p.data(), low, high);
    for (std::size_t i = 0; i < lanes; ++i) CHECK((got >> i & 1u) == (p[i] >= low && p[i] <= high ? 1u : 0u));
    CHECK(got >> (lanes - 1) <= 1u);  // no bits above the lanes
  }
  for (int round = 0; round < 200; ++round) {
    std::array<std::int32_t, 32> p;
    for (auto& x : p) x = 3 + random.below(17);
    if (round % 2 == 0) p[test::at(random.below(32))] = round % 4 == 0 ? -1 : 20;
    CHECK(simd::all_between<32>(p.data(), 3, 19) == (round % 2 != 0));
    const auto [least, most] = std::minmax_element(p.begin(), p.end());
    CHECK(simd::all_between<32>(p.data(), *least, *most));
    CHECK_FALSE(simd::all_between<32>(p.data(), *least + 1, *most));
    CHECK_FALSE(simd::all_between<32>(p.data(), *least, *most - 1));
  }
}

TEST_CASE("while numbers of a tile are read, every line of the next one is asked for once", "[backend]") {
  constexpr int lines = 48, line = kv::detail::line_bytes, pieces = 8;
  const std::vector<std::byte> memory(2 * pieces * lines * line);
  const auto in_calls_of = [&]<int N>(std::integral_constant<int, N>) {
    kv::detail::packed_piece where[pieces];
    for (int i = 0; i < pieces; ++i)  // the next tile lies in another order
      where[i] = {memory.data() + i * lines * line, 0, (2 * pieces - 1 - 2 * i) * lines * line};
    const kv::detail::packed_pieces all{where, pieces, 32, 0};
    std::vector<int> asked(2 * pieces * lines, 0);
    for (int i = 0; i < pieces; ++i) {
      const auto ahead =
          kv::detail::line_streams::of(all, i, lines * line, [](const kv::detail::packed_piece& p) { return p.tile; });
      for (std::size_t first = 0; first < lines; first += N)
        each<N>([&](auto n) {
          ++asked[static_cast<std::size_t>(ahead.template line<N>(first, n) - memory.data()) / line];
        });
    }
    for (std::size_t i = 0; i < asked.size(); ++i) CHECK(asked[i] == (i < asked.size() / 2 ? 0 : 1));
  };
  in_calls_of(std::integral_constant<int, 1>{});
  in_calls_of(std::integral_constant<int, 2>{});
  in_calls_of(std::integral_constant<int, 4>{});
  in_calls_of(std::integral_constant<int, 8>{});
}

/// Pages of `Rows` rows with keys before values: every line is asked for once, evenly, keys and values or both
/// together.
template <int Rows>
void asks_for_pages(bool whole) {
  constexpr int line = kv::detail::line_bytes, pieces = kv::detail::tile_ahead::pieces, reads = 3 * pieces;
  constexpr int piece_lines = 5, tiles = std::max(1, Rows / 128), pages = std::max(1, 128 / Rows);
  const std::size_t part = Rows / 32 * piece_lines * line;  // keys, or values, of a page
  const std::vector<std::byte> memory(pages * 2 * part);
  std::vector<int> asked(memory.size() / line, 0);
  kv::detail::tile_ahead ahead;
  const auto reads_lines = [&](int n) {
    const auto before = ahead;
    n > 0 ? ahead.read(n) : ahead.finish();
    for (int k = 0; k < before.left() - ahead.left(); ++k)
      for (int i = 0; i < pieces; ++i)
        ++asked[static_cast<std::size_t>(before.line(i) + k * line - memory.data()) / line];
    return before.left() - ahead.left();
  };
  for (int tile = 0; tile < tiles; ++tile) {
    kv::detail::packed_piece next[pieces];
    for (int i = 0; i < pieces; ++i) {
      const int row = 128 * tile + 32 * i;
      next[i] = {memory.data() + static_cast<std::size_t>(row / Rows) * 2 * part, row % Rows, 0};
    }
    for (const std::size_t from : {std::size_t{0}, part}) {
      if (whole && from > 0) break;
      ahead.begin<Rows>(next, pieces, whole ? 2 * part : part, from);
      const int lines = ahead.left();
      for (const int share : {lines / 3, lines - lines / 3}) {
        ahead.spread(share, reads);
        int most = 0;
        for (int i = 0; i < reads; ++i) most = std::max(most, reads_lines(1));
        CHECK(most <= share / reads + 1);
      }
      CHECK(ahead.left() <= 1);
      CHECK(reads_lines(0) <= 1);
      CHECK(ahead.left() == 0);
      CHECK(reads_lines(1000) == 0);
    }
  }
  CAPTURE(Rows, whole);
  CHECK(asked == std::vector<int>(asked.size(), 1));
}

TEST_CASE("while codes of a tile are read, every line of the next tile's pages is asked for once", "[backend]") {
  for (const bool whole : {false, true})
    asks_for_pages<32>(whole), asks_for_pages<64>(whole), asks_for_pages<128>(whole), asks_for_pages<256>(whole);
  kv::detail::tile_ahead none;
  none.begin<32>(static_cast<const kv::detail::packed_piece*>(nullptr), 0, 100);
  none.finish();
  CHECK(none.left() == 0);
}

/// Writes down which lines are read, and how many are said to be.
struct listener {
  std::vector<const std::byte*>* lines;
  int* said;
  template <int L, int Units, class Lane, class Unit>
  void ask(Lane l, Unit unit, const std::byte* at) const {
    lines->push_back(at);
    if constexpr (l == 0 && unit == 0) *said += L * Units;
  }
};
template <int Bits>
struct plain_grid {
  static constexpr int bits = Bits, numbers = 1;
};

/// Products of a piece's codes, `Count` quads at a time, or all of them in one loop (0).
template <int Bits, int Count>
void says_which_lines_it_reads() {
  using P = simd::wide;
  constexpr int L = kv::detail::score_vectors, depth = 128, quads = depth / 4, bytes = 4 * simd::lanes;
  constexpr std::size_t block = kv::detail::quad_block<Bits>::bytes(depth);
  static_assert(Bits > 0);
  const std::vector<std::byte> codes(2 * block + 64), factors(static_cast<std::size_t>(P::bytes(quads, 1)) + 256);
  std::vector<const std::byte*> lines;
  int said = 0;
  const kv::detail::lane_vectors<listener> lanes{codes.data(), block, {&lines, &said}};
  constexpr int step = Count > 0 ? Count : quads;
  for (int q = 0; q < quads; q += step) {
    kv::detail::product_sum<P, 1> a[L][1];
    kv::detail::add_products<plain_grid<Bits>, P, Count>(a, kv::detail::from_nothing{}, lanes, depth,
                                                         static_cast<std::size_t>(q), step,
                                                         factors.data() + q * P::quad_bytes(1), P::row_bytes(quads));
  }
  CAPTURE(Bits, Count);
  std::sort(lines.begin(), lines.end());
  CHECK(std::adjacent_find(lines.begin(), lines.end()) == lines.end());
  CHECK(lines.size() == L * simd::lanes * (block / 16) / bytes);
  CHECK(said == static_cast<int>(lines.size()));
}

template <int... Bits>
void say_which_lines_they_read() {
  (..., (says_which_lines_it_reads<Bits, 0>(), says_which_lines_it_reads<Bits, 8>()));
}

TEST_CASE("products say which lines of codes they read, each once", "[backend]") {
  say_which_lines_they_read<8, 4, 3, 2>();
}

TEST_CASE("codes are taken out of bytes, joined and looked up", "[backend]") {
  random_numbers random;
  for (int round = 0; round < 10; ++round) {
    each<8>([&](auto k) { takes_a_field<1, k>(random); });
    each<4>([&](auto k) { takes_a_field<2, k>(random); });
    each<2>([&](auto k) { takes_a_field<4, k>(random); });
    takes_a_field<8, 0>(random);
    reads_fields<simd::narrow, 2, 2>(random), reads_fields<simd::narrow, 4, 1>(random);
    adds_places<simd::narrow>(random);
    joins<2, 1>(random), joins<4, 1>(random), joins<4, 2>(random), joins<4, 3>(random), joins<6, 1>(random);
    std::int8_t table[16];
    for (auto& x : table) x = static_cast<std::int8_t>(random.below(256) - 128);
    table[0] = -128, table[15] = 127;
    const auto x = codes(random, 15);
    const auto got = bytes_of(simd::lookup(raw_of(x), table));
    for (std::size_t i = 0; i < got.size(); ++i) REQUIRE(static_cast<int>(got[i]) == table[x[i]] + 128);
  }
}

TEST_CASE("sums of codes times narrow factors are exact", "[backend]") {
  for (const int bits : {2, 3, 4, 5, 6}) multiplies_codes<simd::narrow>(bits);
  if (simd::narrow::full_range) multiplies_codes<simd::narrow>(8);
}

TEST_CASE("numbers are rounded so that their sum stays", "[backend]") {
  random_numbers random;
  for (const int n : {32, 128})
    for (int round = 0; round < 100; ++round) {
      std::vector<float> x(static_cast<std::size_t>(n)), whole(x.size());
      const float inverse = random.between(0.5f, 4), offset = round % 4 == 0 ? random.between(-0.5f, 0.5f) : 0;
      for (float& y : x) y = round % 4 == 1 ? 0.49f / inverse : (random.between(-30, 30) + offset) / inverse;
      if (round % 4 == 2)
        for (float& y : x) y = std::nearbyint(y) + offset;
      if (round == 3) std::fill(x.begin(), x.end(), 0.0f);
      kv::detail::round_with_sum(x.data(), n, inverse, whole.data());
      double sum = 0, nearest = 0, added = 0;
      int moved = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const float y = x[i] * inverse;
        sum += y, nearest += std::nearbyint(y), added += whole[i];
        REQUIRE(whole[i] == std::nearbyint(whole[i]));
        REQUIRE(std::abs(whole[i] - y) < 1);
        moved += whole[i] != std::nearbyint(y);
      }
      CAPTURE(random.seed, n, round, sum, nearest, added);
      CHECK(std::abs(added - sum) <= 0.5 + 1e-3);
      CHECK(moved <= std::abs(nearest - sum) + 0.5 + 1e-3);
    }
  std::vector<float> odd(32, 1.0f), whole(32);  // what is not a number stays in its place
  odd[5] = std::numeric_limits<float>::quiet_NaN(), odd[9] = std::numeric_limits<float>::infinity();
  kv::detail::round_with_sum(odd.data(), 32, 1, whole.data());
  CHECK(whole[31] == 1);
}

TEST_CASE("sums of codes times wide factors are exact", "[backend]") {
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) multiplies_codes<simd::wide>(bits);
}

}  // namespace simd_test
