// SPDX-License-Identifier: Apache-2.0
// What the tests of packed kernels share: the kernels of a codec without its type, inputs that hurt, float64 attention
// over true and over decoded rows, and the promise that links them.
//
//   kernel error        output against float64 attention over the decoded rows
//   quantization error  float64 attention over the decoded rows against the same over the true rows
//
// Codes of up to 4 bits: at most an eighth of the quantization error, plus what float arithmetic loses (1e-5).
// Codes of 5 to 8 bits: 1e-3 of the output. Numbers, and formats that are decoded: 1e-5.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <tersekv/backend/cpu/packed.hpp>
#include <tersekv/page_format.hpp>
#include <tersekv/read/read_all.hpp>

#include "catch.hpp"
#include "index.hpp"

namespace test {

namespace kv = tersekv;
namespace kd = tersekv::detail;

/// A new one in every run; TERSEKV_SEED repeats an old one. Every test that draws from it CAPTUREs it.
inline unsigned fresh_seed() {
  if (const char* given = std::getenv("TERSEKV_SEED")) return static_cast<unsigned>(std::strtoul(given, nullptr, 10));
  return std::random_device{}();
}

/// CAPTURE(random.seed) in every test that has one.
struct random_numbers {
  unsigned seed = fresh_seed();
  std::mt19937 engine{seed};
  float between(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine); }
  int below(int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); }
  std::vector<float> some(float low, float high, std::size_t n = at(kd::simd::lanes)) {
    std::vector<float> out(n);
    for (float& x : out) x = between(low, high);
    return out;
  }
};

inline std::size_t cells(int rows, int dim) { return at(rows) * at(dim); }

// ---------------------------------------------------------------------------------------------------------- kernels

/// The kernels of one page format.
struct kernels {
  int key_dim = 0, value_dim = 0, page_rows = 0, span = 0;
  std::size_t page_bytes = 0;
  int bits = 0;               // the fewest of a code of keys or values; 32: numbers
  std::vector<int> together;  // queries that may be attended at once

  virtual ~kernels() = default;
  virtual void encode(std::byte* page, int first, int count, const float* k, const float* v) const = 0;
  virtual void decode(const std::byte* page, float* k, float* v) const = 0;  // all rows
  virtual std::size_t query_bytes(int rows) const = 0;
  virtual void prepare(int rows, const float* q, std::byte* to) const = 0;  // q [rows, padded(key_dim)]
  virtual void attend(int rows, const std::byte* query, int first, int last, kd::piece_source piece,
                      const kd::sight* see, const kd::partial_state& state, const kd::weight_record& record) const = 0;
  virtual void finish(float* out) const = 0;
};

template <class Format>
constexpr int bits_of() {
  if constexpr (requires { Format::grid::bits; })
    return kd::key_kernel<Format>::packed || kd::value_kernel<Format>::packed ? Format::grid::bits : 32;
  else if constexpr (requires(Format f) { f.inner; })
    return bits_of<decltype(Format::inner)>();
  else
    return 32;
}

/// Rows: how many queries at once; fewer of them compile faster.
template <class Codec, int... Rows>
struct kernels_of final : kernels {
  using page = kv::page_format<Codec, kv::read_all>;
  using keys = kd::key_kernel<typename page::key_format>;
  using values = kd::value_kernel<typename page::value_format>;
  page format;

  kernels_of(Codec codec, int dk, int dv) : format(codec, kv::read_all{}, dk, dv) {
    key_dim = dk, value_dim = dv, page_rows = page::rows, span = page::span;
    page_bytes = (format.bytes() + 63) / 64 * 64;
    bits = std::min(bits_of<typename page::key_format>(), bits_of<typename page::value_format>());
    together = {Rows...};
  }
  void encode(std::byte* to, int first, int count, const float* k, const float* v) const override {
    format.encode(to, first, count, k, v);
  }
  void decode(const std::byte* from, float* k, float* v) const override {
    format.decode_keys(from, 0, page_rows, k);
    format.decode_values(from, 0, page_rows, v);
  }
  std::size_t query_bytes(int rows) const override { return keys::query_bytes(format.keys, key_dim, rows); }
  void prepare(int rows, const float* q, std::byte* to) const override {
    with(rows, [&]<int R>(std::integral_constant<int, R>) {
      const float* row[R];
      for (int r = 0; r < R; ++r) row[r] = q + r * kd::padded(key_dim);
      keys::template prepare<R>(format.keys, row, key_dim, to);
    });
  }
  void attend(int rows, const std::byte* query, int first, int last, kd::piece_source piece, const kd::sight* see,
              const kd::partial_state& state, const kd::weight_record& record) const override {
    with(rows, [&]<int R>(std::integral_constant<int, R>) {
      kd::attend_pieces<R>(format, query, first, last, last, piece, see, state, record);
    });
  }
  void finish(float* out) const override { values::finish(format.values, out, value_dim); }

 private:
  template <class F>
  static void with(int rows, F&& f) {
    const bool found = ((rows == Rows && (f(std::integral_constant<int, Rows>{}), true)) || ...);
    if (!found) std::abort();
  }
};

/// Rows of whole groups, or of less than one where blocks have no size of their own.
template <class Format>
bool has_groups_for(int dim) {
  if constexpr (requires(Format f) { f.inner; })
    return has_groups_for<decltype(Format::inner)>(dim);
  else if constexpr (requires { Format::grid::block; })
    return dim % Format::grid::block == 0;
  else if constexpr (requires { Format::group_size; })
    return Format::group_size == 0 || dim < Format::group_size || dim % Format::group_size == 0;
  else
    return true;
}

/// A codec by name; make() gives null where the codec refuses the dimensions.
struct candidate {
  std::string name;
  std::function<std::unique_ptr<kernels>(int key_dim, int value_dim)> make;
  bool (*takes_keys_of)(int dim);
};
template <class Codec, int... Rows>
candidate named_for(std::string name, std::integer_sequence<int, Rows...>) {
  return {std::move(name),
          [](int dk, int dv) -> std::unique_ptr<kernels> {
            try {
              return std::make_unique<kernels_of<Codec, Rows...>>(Codec{}, dk, dv);
            } catch (const kv::shape_error&) {
              return nullptr;
            }
          },
          &has_groups_for<typename kernels_of<Codec, Rows...>::page::key_format>};
}
template <class Codec>
candidate named(std::string name) {
  return named_for<Codec>(std::move(name), std::integer_sequence<int, 1, 2, 4, 8>{});
}
/// One of the cheaper kind: other tests show what does not depend on the codec.
template <class Codec>
candidate briefly(std::string name) {
  return named_for<Codec>(std::move(name), std::integer_sequence<int, 4>{});
}

// ----------------------------------------------------------------------------------------------------------- inputs

struct inputs {
  int rows = 0, queries = 0, key_dim = 0, value_dim = 0;
  std::vector<float> k, v;  // [rows, dim]
  std::vector<float> q;     // [queries, padded(key_dim)], times scale and log2(e)

  float& key(int t, int c) { return k[cells(t, key_dim) + at(c)]; }
  float& value(int t, int c) { return v[cells(t, value_dim) + at(c)]; }
  float& query(int r, int c) { return q[cells(r, kd::padded(key_dim)) + at(c)]; }
  double logit(int r, int t) const {  // in units of log 2
    double x = 0;
    for (int c = 0; c < key_dim; ++c)
      x += static_cast<double>(q[cells(r, kd::padded(key_dim)) + at(c)]) *
           static_cast<double>(k[cells(t, key_dim) + at(c)]);
    return x;
  }
};

struct kind {
  const char* name;
  void (*shape)(inputs& x, std::mt19937& engine);  // changes Gaussian rows and queries
};

namespace detail {
inline float normal(std::mt19937& engine) { return std::normal_distribution<float>()(engine); }
/// Row `t` takes the part `share` of the weight of query 0, and much of the others'.
inline void attract(inputs& x, std::mt19937& engine, int t, double share) {
  if (x.rows < 2) return;
  std::vector<float> u(at(x.key_dim));
  float norm = 0;
  for (float& c : u) c = normal(engine), norm += c * c;
  for (float& c : u) c /= std::sqrt(norm);
  for (int r = 0; r < x.queries; ++r)  // all queries look that way
    for (int c = 0; c < x.key_dim; ++c) x.query(r, c) += 3 * kd::log2_e * u[at(c)];
  for (int s = 0; s < x.rows; ++s) {
    float along = 0;
    for (int c = 0; c < x.key_dim; ++c) along += x.key(s, c) * u[at(c)];
    for (int c = 0; c < x.key_dim; ++c) x.key(s, c) -= along * u[at(c)];
  }
  double others = 0;
  for (int s = 0; s < x.rows; ++s)
    if (s != t) others += std::exp2(x.logit(0, s));
  for (int c = 0; c < x.key_dim; ++c) x.key(t, c) = u[at(c)];
  const double wanted = std::log2(others * share / (1 - share)), have = x.logit(0, t);
  if (have > 0.1)
    for (int c = 0; c < x.key_dim; ++c) x.key(t, c) *= static_cast<float>(wanted / have);
}
inline void scale_queries(inputs& x, float by) {
  for (float& c : x.q) c *= by;
}
/// Student's t with 3 degrees of freedom: single numbers of 10 and more among those of 1.
inline float heavy(std::mt19937& engine) { return std::student_t_distribution<float>(3.0f)(engine); }
}  // namespace detail

inline const std::vector<kind>& kinds() {
  static const std::vector<kind> all = {
      {"Gaussian", [](inputs&, std::mt19937&) {}},
      {"sharp Gaussian", [](inputs& x, std::mt19937&) { detail::scale_queries(x, 3); }},
      {"attention sink",
       [](inputs& x, std::mt19937& e) {
         detail::attract(x, e, 0, 0.5);
         for (int c = 0; c < x.value_dim; ++c) x.value(0, c) *= 0.05f;  // sinks hold little
       }},
      {"sink with a value", [](inputs& x, std::mt19937& e) { detail::attract(x, e, 0, 0.5); }},
      {"dominant row", [](inputs& x, std::mt19937& e) { detail::attract(x, e, x.rows / 2, 0.99); }},
      {"key outliers",
       [](inputs& x, std::mt19937& e) {
         const int a = static_cast<int>(e() % at(x.key_dim)), b = static_cast<int>(e() % at(x.key_dim));
         for (int t = 0; t < x.rows; ++t) x.key(t, a) *= 10, x.key(t, b) *= 30;
       }},
      {"key and query outliers",
       [](inputs& x, std::mt19937& e) {
         const int a = static_cast<int>(e() % at(x.key_dim)), b = static_cast<int>(e() % at(x.key_dim));
         for (int t = 0; t < x.rows; ++t) x.key(t, a) += 10, x.key(t, b) -= 30;  // as in models: a mean, little spread
         for (int r = 0; r < x.queries; ++r) x.query(r, a) *= 8, x.query(r, b) *= 8;
       }},
      {"channel means",
       [](inputs& x, std::mt19937& e) {
         for (int c = 0; c < x.key_dim; ++c) {
           const float mean = 3 * detail::normal(e);
           for (int t = 0; t < x.rows; ++t) x.key(t, c) += mean;
         }
         for (int c = 0; c < x.value_dim; ++c) {
           const float mean = detail::normal(e);
           for (int t = 0; t < x.rows; ++t) x.value(t, c) += mean;
         }
       }},
      {"values far from zero",
       [](inputs& x, std::mt19937&) {
         for (float& c : x.v) c += 20;
       }},
      {"value outliers",
       [](inputs& x, std::mt19937& e) {
         const int a = static_cast<int>(e() % at(x.value_dim));
         for (int t = 0; t < x.rows; ++t) x.value(t, a) *= 20;
         for (int t = 0; t < x.rows; t += 7)  // and rows of very different size
           for (int c = 0; c < x.value_dim; ++c) x.value(t, c) *= 30;
       }},
      {"heavy tails",
       [](inputs& x, std::mt19937& e) {
         for (float& c : x.k) c = detail::heavy(e);
         for (float& c : x.v) c = detail::heavy(e);
       }},
      {"heavy tailed queries",
       [](inputs& x, std::mt19937& e) {
         for (int r = 0; r < x.queries; ++r)
           for (int c = 0; c < x.key_dim; ++c)
             x.query(r, c) = detail::heavy(e) * kd::log2_e / std::sqrt(static_cast<float>(x.key_dim));
       }},
      {"logits of eighty",
       [](inputs& x, std::mt19937&) {
         double most = 0;
         for (int r = 0; r < x.queries; ++r)
           for (int t = 0; t < x.rows; ++t) most = std::max(most, std::abs(x.logit(r, t)));
         if (most > 0) detail::scale_queries(x, static_cast<float>(80 * 1.4427 / most));
       }},
      {"rows of zeros",
       [](inputs& x, std::mt19937&) {
         for (int t = 0; t < x.rows; t += 3) {
           for (int c = 0; c < x.key_dim; ++c) x.key(t, c) = 0;
           for (int c = 0; c < x.value_dim; ++c) x.value(t, c) = 0;
         }
       }},
      {"constants",
       [](inputs& x, std::mt19937&) {
         for (float& c : x.k) c = 0.3f;
         for (float& c : x.v) c = -0.7f;
       }},
      {"queries of zeros", [](inputs& x, std::mt19937&) { detail::scale_queries(x, 0); }},
      {"one query of zeros",
       [](inputs& x, std::mt19937&) {
         for (int c = 0; c < x.key_dim; ++c) x.query(x.queries - 1, c) = 0;
       }},
  };
  return all;
}

inline inputs draw(const kind& what, int rows, int queries, int key_dim, int value_dim, unsigned seed) {
  std::mt19937 engine(seed);
  inputs x{rows,
           queries,
           key_dim,
           value_dim,
           std::vector<float>(cells(rows, key_dim)),
           std::vector<float>(cells(rows, value_dim)),
           std::vector<float>(cells(queries, kd::padded(key_dim)), 0.0f)};
  for (float& c : x.k) c = detail::normal(engine);
  for (float& c : x.v) c = detail::normal(engine);
  for (int r = 0; r < queries; ++r)
    for (int c = 0; c < key_dim; ++c)
      x.query(r, c) = detail::normal(engine) * kd::log2_e / std::sqrt(static_cast<float>(key_dim));
  what.shape(x, engine);
  return x;
}

// ---------------------------------------------------------------------------------------------------------- results

/// Undivided states of some queries, and the outputs they stand for.
struct state {
  int queries, dim, stride;
  std::vector<float> maximum, sum, out;
  state(int queries, int dim)
      : queries(queries), dim(dim), stride(kd::padded(dim)), maximum(at(queries)), sum(at(queries)),
        out(cells(queries, stride)) {
    ref().clear(queries);
  }
  kd::partial_state ref() { return {maximum.data(), sum.data(), out.data(), stride}; }
  /// [queries, dim]; zeros where nothing was seen.
  std::vector<float> outputs(const kernels& on) const {
    std::vector<float> result(cells(queries, dim), 0.0f), row(at(stride));
    for (int r = 0; r < queries; ++r) {
      if (sum[at(r)] == 0) continue;
      std::copy_n(out.begin() + r * stride, stride, row.begin());
      on.finish(row.data());
      for (int c = 0; c < dim; ++c) result[cells(r, dim) + at(c)] = row[at(c)] / sum[at(r)];
    }
    return result;
  }
};

/// Rows in pages, as a head holds them; positions and biases may be changed.
class packed_rows {
 public:
  /// Room that no row fills holds what `old` rows left there, or zeros.
  packed_rows(const kernels& on, const inputs& x, const inputs* old = nullptr) : on_(on), rows_(x.rows) {
    const int pages = (x.rows + on.page_rows - 1) / on.page_rows, room = pages * on.page_rows;
    bytes_.assign(at(pages) * on.page_bytes + 64, std::byte{0});
    base_ = bytes_.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes_.data()) % 64) % 64;
    if (old) encode(*old, std::min(old->rows, room));
    encode(x, x.rows);
    position.resize(at(room));
    std::iota(position.begin(), position.end(), 0);
  }
  std::vector<int> position;
  std::vector<float> bias;  // none, or one per row

  int rows() const { return rows_; }
  int pieces() const { return (rows_ + kd::piece_rows - 1) / kd::piece_rows; }
  kd::row_piece piece(int i) const {
    const int row = i * kd::piece_rows, page = row / on_.page_rows;
    return {page_at(page),
            row % on_.page_rows,
            std::min(kd::piece_rows, rows_ - row),
            position.data() + row,
            bias.empty() ? nullptr : bias.data() + row,
            row};
  }
  inputs decoded(inputs x) const {
    std::vector<float> k(cells(on_.page_rows, on_.key_dim)), v(cells(on_.page_rows, on_.value_dim));
    for (int t = 0; t < rows_; t += on_.page_rows) {
      const int n = std::min(on_.page_rows, rows_ - t);
      on_.decode(page_at(t / on_.page_rows), k.data(), v.data());
      std::copy_n(k.begin(), cells(n, on_.key_dim), x.k.begin() + static_cast<std::ptrdiff_t>(cells(t, on_.key_dim)));
      std::copy_n(v.begin(), cells(n, on_.value_dim),
                  x.v.begin() + static_cast<std::ptrdiff_t>(cells(t, on_.value_dim)));
    }
    return x;
  }
  std::vector<std::byte> query(const float* q, int rows) const {
    std::vector<std::byte> to(on_.query_bytes(rows) + 64);
    on_.prepare(rows, q, aligned(to));
    return to;
  }
  /// `rows` queries at q over pieces [first, last).
  void attend(state& to, const std::vector<std::byte>& query, int rows, int first, int last,
              const std::vector<kd::sight>& see, const kd::weight_record& record = {}) const {
    const auto source = [&](int n, int count, kd::row_piece* of) {
      for (int i = 0; i < count; ++i) of[i] = piece(n + i);
    };
    on_.attend(rows, aligned(query), first, last, source, see.data(), to.ref(), record);
  }
  /// All rows at once.
  state attend(const float* q, int rows, const std::vector<kd::sight>& see,
               const kd::weight_record& record = {}) const {
    state out(rows, on_.value_dim);
    attend(out, query(q, rows), rows, 0, pieces(), see, record);
    return out;
  }
  std::vector<kd::sight> sees_all(int queries) const { return std::vector<kd::sight>(at(queries), {0, 1 << 30}); }

 private:
  void encode(const inputs& x, int rows) {
    const int span = on_.span;
    for (int t = 0; t < rows; t += span) {  // a span that is not full is filled with zeros
      std::vector<float> k(cells(span, on_.key_dim), 0.0f), v(cells(span, on_.value_dim), 0.0f);
      const int n = std::min(span, rows - t);
      std::copy_n(x.k.begin() + static_cast<std::ptrdiff_t>(cells(t, on_.key_dim)), cells(n, on_.key_dim), k.begin());
      std::copy_n(x.v.begin() + static_cast<std::ptrdiff_t>(cells(t, on_.value_dim)), cells(n, on_.value_dim),
                  v.begin());
      on_.encode(base_ + at(t / on_.page_rows) * on_.page_bytes, t % on_.page_rows, span, k.data(), v.data());
    }
  }
  const std::byte* page_at(int page) const { return base_ + at(page) * on_.page_bytes; }
  static std::byte* aligned(const std::vector<std::byte>& x) {
    auto* p = const_cast<std::byte*>(x.data());
    return p + (64 - reinterpret_cast<std::uintptr_t>(p) % 64) % 64;
  }

  const kernels& on_;
  int rows_;
  std::vector<std::byte> bytes_;
  std::byte* base_;
};

/// Float64 attention over rows as given: [queries, value_dim]. seen(r, t), bias(t).
inline std::vector<double> attention(
    const inputs& x, const std::function<bool(int, int)>& seen = [](int, int) { return true; },
    const std::vector<float>& bias = {}) {
  std::vector<double> out(cells(x.queries, x.value_dim), 0.0), logit(at(x.rows));
  for (int r = 0; r < x.queries; ++r) {
    double top = -1e300, sum = 0;
    for (int t = 0; t < x.rows; ++t) {
      logit[at(t)] = seen(r, t) ? x.logit(r, t) : -1e300;
      if (!bias.empty() && seen(r, t)) logit[at(t)] += static_cast<double>(bias[at(t)]) / std::log(2.0);
      top = std::max(top, logit[at(t)]);
    }
    double* o = out.data() + cells(r, x.value_dim);
    for (int t = 0; t < x.rows && top > -1e300; ++t) {
      const double p = std::exp2(logit[at(t)] - top);
      if (p < 1e-30) continue;
      sum += p;
      const float* v = x.v.data() + cells(t, x.value_dim);
      for (int c = 0; c < x.value_dim; ++c) o[c] += p * static_cast<double>(v[c]);
    }
    for (int c = 0; c < x.value_dim && sum > 0; ++c) o[c] /= sum;
  }
  return out;
}

template <class A, class B>
double mean_square(const std::vector<A>& a, const std::vector<B>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return sum / static_cast<double>(std::max<std::size_t>(1, a.size()));
}

/// Mean squares, over all numbers of the outputs of one or more cases. total: of the output against attention over the
/// true rows.
struct errors {
  double kernel = 0, quantization = 0, output = 0, total = 0;
  void operator+=(const errors& e) {
    kernel += e.kernel, quantization += e.quantization, output += e.output, total += e.total;
  }
  double ratio() const { return quantization > 0 ? std::sqrt(kernel / quantization) : 0; }
  /// By how much the total error exceeds that of quantization alone, as a part of it.
  double added() const { return quantization > 0 ? std::sqrt(total / quantization) - 1 : 0; }
  double relative() const { return output > 0 ? std::sqrt(kernel / output) : std::sqrt(kernel); }
  /// How much of the promise is used up: fine up to 1.
  double used(int bits) const {
    const double k = std::sqrt(kernel), o = std::sqrt(output) + 1e-25;
    return bits <= 4 ? k / (std::sqrt(quantization) / 8 + 1e-5 * o) : k / ((bits <= 8 ? 1e-3 : 1e-5) * o);
  }
};

inline errors compare(const std::vector<float>& got, const std::vector<double>& decoded,
                      const std::vector<double>& true_rows) {
  return {mean_square(got, decoded), mean_square(decoded, true_rows),
          mean_square(decoded, std::vector<double>(decoded.size(), 0.0)), mean_square(got, true_rows)};
}
inline errors measure(const kernels& on, const inputs& x) {
  const packed_rows rows(on, x);
  const auto got = rows.attend(x.q.data(), x.queries, rows.sees_all(x.queries)).outputs(on);
  return compare(got, attention(rows.decoded(x)), attention(x));
}

}  // namespace test
