// SPDX-License-Identifier: Apache-2.0
// The contract between policies and the cache. Read this first.
//
// A policy is a small struct with `using role = tersekv::role::...;` that answers the questions of its role:
//
//   role       question                                         default      concept
//   backend    where it computes                                none         backend/backend.hpp
//   share      which slot does a layer read, who writes it      own          sharer
//   evict      which rows are worth most                        keep_all     evictor
//   budget     how many rows each slot and head may keep        uniform      budgeter
//   merge      where a leaving row's content goes               drop         merger
//   codec      how a row is written                             dense<half>  codec
//   read       which packed pages a query reads this time       read_all     reader
//   rotary     how keys were rotated (for cache positions)      unknown_rotation
//
// It may state facts: `using needs = tersekv::list<fact::...>` and `using provides = tersekv::list<fact::...>`.
// A need that no policy of the recipe provides is a compile error whose sentence stands with the fact, below.
// It may state a flaw of its template arguments: `using flaw = std::conditional_t<good, tersekv::no_flaw,
// sentence<...>>`, where instantiating `sentence` fails an assertion that says what to write instead. It may offer its
// tuning to strings and reports: `static constexpr std::string_view name` and `template <class F> void tuning(F&& f) {
// f("heavy", heavy); }` (see any_cache.hpp).
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <tersekv/config.hpp>
#include <tersekv/layer_plan.hpp>

namespace tersekv {

template <class... Ts>
struct list {};

namespace role {
struct backend {};
struct share {};
struct evict {};
struct budget {};
struct merge {};
struct codec {};
struct key_codec {};    // half of a codec: kv::keys<...>
struct value_codec {};  // the other half: kv::values<...>
struct read {};
struct rotary {};
}  // namespace role

/// What a policy with sound template arguments states as its `flaw`, or leaves out.
struct no_flaw {};

namespace detail {
template <class...>
inline constexpr bool never = false;
}

/// What policies need from each other. `is_missing` is instantiated when nobody in the recipe provides the fact, so
/// that the compiler prints the sentence, and below it who needs what, and among whom.
namespace fact {

// The attention that each stored row received, summed over the queries of a step: provided by the backend.
struct attention_mass {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this policy scores rows by the attention they receive, but the backend does not "
                  "report it. Use tersekv::cpu, or an eviction policy that looks at keys or positions "
                  "(tersekv::streaming_llm, tersekv::keydiff).");
  };
};
// The attention row of the newest query: provided by the backend.
struct last_attention {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this policy scores rows by the attention of the newest query, but the backend does "
                  "not report it. Use tersekv::cpu, or tersekv::streaming_llm or tersekv::keydiff.");
  };
};
// The newest queries, kept by the cache so that their attention can be computed when it is needed.
struct query_window {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this policy scores rows by the attention of the newest queries, but the backend "
                  "does not compute it. Use tersekv::cpu, or tersekv::streaming_llm or tersekv::keydiff.");
  };
};
// Keys can be read back as numbers: provided by codecs that reconstruct.
struct readable_keys {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this policy compares stored keys, but the codec cannot read them back. Use a codec "
                  "that reconstructs keys, such as tersekv::int8<>.");
  };
};
// A single row may leave a packed group: the codec can open the group and write it again.
struct single_rows_may_leave {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this eviction policy removes single rows, but the codec packs groups of rows that "
                  "cannot be reopened. Let the groups be reopened (tersekv::kivi<2, 32, 128, tersekv::reopened>), use "
                  "a codec that writes each row alone (tersekv::int4<>), or evict in order of position "
                  "(tersekv::streaming_llm).");
  };
};
// Stored rows can be rewritten: the codec reopens rows, or keeps a full-precision window whose rows can be.
struct rewritable_rows {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this policy rewrites stored rows, but the codec packs every row at once and cannot "
                  "reopen it. Give the codec a full-precision window (tersekv::kivi<2, 32, 128>), or drop the merge "
                  "policy.");
  };
};
// Rows leave the cache: provided by every eviction policy but keep_all.
struct rows_leave {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this policy acts on rows that an eviction policy lets go, but the recipe keeps all "
                  "rows. Add an eviction policy, such as tersekv::h2o{.heavy = 256, .recent = 256}.");
  };
};
// Each KV head keeps a set of rows of its own, by scores that may be compared between heads.
struct comparable_scores {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: this budget moves rows between heads by comparing their scores, but the eviction "
                  "policy's scores are not comparable between heads, or its heads share one set of rows. Use an "
                  "eviction policy with such scores (tersekv::snapkv, tersekv::h2o), or tersekv::uniform.");
  };
};
// The rotation of the model's keys is known, so that the cache can rotate them anew.
struct rotation {
  template <class Who, class Among>
  struct is_missing {
    static_assert(detail::never<Who>,
                  "tersekv::cache: cache positions rotate stored keys anew, but the recipe does not say how the "
                  "model's keys are rotated. Add the model's rotation: tersekv::rope{.base = 10000, .interleaved = "
                  "true}.");
  };
};

}  // namespace fact

// ------------------------------------------------------------------------------------------------ words of eviction

/// Why a row may not leave; when the protected rows alone exceed a budget, the higher kind stays, then the newer row.
enum class protection : unsigned char { none, recent, sink, caller };

/// One row as a protector sees it.
struct row {
  int position;  // absolute, from 0
  int age;       // tokens seen since; 0 = the newest token
};

/// When rows are let go. Rows leave only in `commit`, and only where a head holds more than its budget.
struct trigger {
  bool prompt_end = true;  // at the end of a prompt (a step of more than one token that is not marked `more`)
  int every = 1;           // after every n-th token of decoding; 0 = never while decoding
  int slack = 0;           // rows above the budget that are tolerated first                             [rows]
  bool chunks = false;     // also after every chunk of a prompt that is marked `more`
};
inline constexpr trigger at_prompt_end{true, 0, 0};
inline constexpr trigger every_step{true, 1, 0};
inline constexpr trigger every_chunk{true, 1, 0, true};
constexpr trigger every(int tokens) { return {true, tokens, 0}; }
constexpr trigger overflow(int rows) { return {true, 1, rows}; }

/// scored_head as plain pointers, for scorers that give one row's score at a time, on host and device.
struct row_signals {
  const int* position;            // [n]
  const float* state;             // [n, columns]
  const float* last_attention;    // [n]
  const float* window_attention;  // [n]
  const float* keys;              // [n, key_dim]
  int n, key_dim, window_queries, seen, slot, head;
};

/// What a scorer may read about one KV head. Rows are in order of position; n = rows().
struct scored_head {
  std::span<const int> position;            // [n]
  std::span<const float> state;             // [n, Evict::columns] the policy's own columns
  std::span<const float> last_attention;    // [n] of the newest query, mean over the group       (fact::last_attention)
  std::span<const float> window_attention;  // [n] summed over the window's queries, mean over the group (query_window)
  std::span<const float> keys;              // [n, key_dim] as stored, without the codec          (fact::readable_keys)
  int key_dim = 0;
  int window_queries = 0;  // how many queries the window holds
  int seen = 0;            // tokens of the sequence so far
  int slot = 0, head = 0;
  int rows() const { return static_cast<int>(position.size()); }
  row_signals signals() const {
    return {position.data(),
            state.data(),
            last_attention.data(),
            window_attention.data(),
            keys.data(),
            rows(),
            key_dim,
            window_queries,
            seen,
            slot,
            head};
  }
};

/// Scores all rows of a head by policy.score(row_signals, row).
template <class Evict>
void score_each(const Evict& policy, const scored_head& head, std::span<float> out) {
  const row_signals rows = head.signals();
  for (int j = 0; j < rows.n; ++j) out[static_cast<std::size_t>(j)] = policy.score(rows, j);
}

/// One step's attention on one row.
struct observation {
  float mass;   // attention received, summed over the queries, mean over the group, summed over the reading layers
  int queries;  // how many queries could have seen the row
};

// --------------------------------------------------------------------------------------------------- concepts of roles

/// Decides where layers read. `plan(layers)` throws shape_error when the map does not fit.
template <class P>
concept sharer = requires(const P p, int layers) {
  { p.plan(layers) } -> std::same_as<layer_plan>;
};

/// Scores rows: larger = keep; NaN ranks lowest; on ties the newer row stays.
///   int columns                            floats of state per row (a constant)
///   void score(scored_head, out[n])        one number per row
///   protection protects(row)               rows that may not leave
///   int budget()                           rows per head, protected ones included
///   trigger when                           see above
/// Optional: `void observe(float* state, observation)`, `void insert(float* state, const auto& key, int key_dim)`
/// (key[c] are its numbers), `int queries()` (size of the query window), `bool per_layer = true` (one set of rows for
/// all heads of a slot: scores are averaged), `bool in_order = true` (rows leave by age, sinks apart). For devices:
/// `float score(const row_signals&, int row)`, all functions TERSEKV_HD (docs/adding_a_policy.md).
template <class P>
concept evictor = requires(const P p, const scored_head& head, std::span<float> out, row r) {
  { P::columns } -> std::convertible_to<int>;
  p.score(head, out);
  { p.protects(r) } -> std::same_as<protection>;
  { p.budget() } -> std::convertible_to<int>;
  { p.when } -> std::convertible_to<trigger>;
};

namespace detail {

/// policy.observe(state, o), if it observes; `state` may be asked for as a pointer or as a span.
template <class Policy>
void observe_row(const Policy& policy, std::span<float> state, const observation& o) {
  if constexpr (requires { policy.observe(state.data(), o); })
    policy.observe(state.data(), o);
  else if constexpr (requires { policy.observe(state, o); })
    policy.observe(state, o);
}

/// policy.insert(state, key), if it looks at new keys; likewise.
template <class Policy>
void insert_row(const Policy& policy, std::span<float> state, std::span<const float> key) {
  if constexpr (requires { policy.insert(state.data(), key.data(), 1); })
    policy.insert(state.data(), key.data(), static_cast<int>(key.size()));
  else if constexpr (requires { policy.insert(state, key); })
    policy.insert(state, key);
}
template <class P>
concept inserts_rows = requires(const P p, std::span<float> s, std::span<const float> k) {
  p.insert(s, k);
}
|| requires(const P p, float* s, const float* k) { p.insert(s, k, 1); };

}  // namespace detail

/// One slot at the time of a trim as plain numbers, for budgets that need no scores, on host and device.
struct slot_rows {
  int rows, slot, slots, seen, heads;  // as in budget_request
  const int* held;                     // [heads]
  const int* guarded;                  // [heads]
};

/// What a budget may look at: one slot at the time of a trim.
struct budget_request {
  int rows;  // rows per head that the eviction policy asks for, protected ones included
  int slot = 0, slots = 1;
  int seen = 0;                                         // tokens of the sequence so far
  std::span<const int> held;                            // [heads] rows now
  std::span<const int> guarded;                         // [heads] protected rows among them
  std::span<const std::span<const float>> scores;       // [heads][rows]; empty unless `needs_scores`
  std::span<const std::span<const protection>> guards;  // [heads][rows]; empty unless `needs_scores`
  int heads() const { return static_cast<int>(held.size()); }
  slot_rows counts() const { return {rows, slot, slots, seen, heads(), held.data(), guarded.data()}; }
};

/// Spreads rows over slots and heads. `bool needs_scores` (constant) asks for the scores of all heads. For devices:
/// `int rows_per_head(const slot_rows&)`, TERSEKV_HD, where all heads of a slot get the same.
template <class P>
concept budgeter = requires(const P p, const budget_request& request, std::span<int> rows) {
  { P::needs_scores } -> std::convertible_to<bool>;
  p.allocate(request, rows);
};

/// log(e^a + e^b)
TERSEKV_HD inline float joint_log(float a, float b) { return (a > b ? a : b) + std::log1p(std::exp(-std::abs(a - b))); }

/// What a merger may read and write of one head: all its rows, in order of position, as floats.
struct fold_head {
  std::span<float> keys;                    // [n, key_dim]
  std::span<float> values;                  // [n, value_dim]
  std::span<const int> position;            // [n]
  std::span<const int> leave, stay;         // ascending row indices, disjoint
  std::span<const protection> guard;        // [n]
  std::span<const unsigned char> writable;  // [n] rows that may be rewritten
  std::span<unsigned char> changed;         // [n] set by the merger for every row it rewrote
  std::span<float> state;                   // [n, Merge::columns] the merger's own columns
  std::span<float> bias;  // [n] log of the tokens a row stands for; empty unless `log_mass` is in the recipe
  int key_dim = 0, value_dim = 0, seen = 0;
  /// Row `to` takes over content of the leaving row `from`: marks it as changed and, where rows stand for several
  /// tokens, moves the mass. Mergers call it once per leaver that they fold.
  void absorb(int to, int from) const {
    changed[static_cast<std::size_t>(to)] = 1;
    if (bias.empty()) return;
    float& mine = bias[static_cast<std::size_t>(to)];
    mine = joint_log(mine, bias[static_cast<std::size_t>(from)]);
  }
  std::span<float> key(int i) const { return keys.subspan(at(i, key_dim), static_cast<std::size_t>(key_dim)); }
  std::span<float> value(int i) const { return values.subspan(at(i, value_dim), static_cast<std::size_t>(value_dim)); }

 private:
  static std::size_t at(int i, int dim) { return static_cast<std::size_t>(i) * static_cast<std::size_t>(dim); }
};

/// Folds leaving rows into stayers. `head_state` is a copyable struct kept per sequence, slot and head; `folds` is
/// false only for drop; `columns` as for evictors, with the same optional `observe`.
template <class P>
concept merger = requires(const P p, fold_head& head, typename P::head_state& state) {
  { P::columns } -> std::convertible_to<int>;
  { P::folds } -> std::convertible_to<bool>;
  p.fold(head, state);
};

/// How the keys or the values of one head are written. A tile holds `rows` rows; a full span of it never changes.
///   int span                                   rows that are encoded together (1 = each row alone)
///   bool opens                                 packed rows may be decoded, changed and encoded again
///   void check(dim)                            throws shape_error when the dimension does not fit
///   size_t bytes(rows, dim)                    of a tile
///   void encode(x[count, dim], dim, tile, rows, first, count)    first and count are multiples of span
///   void decode(tile, rows, first, count, dim, x[count, dim])    any first and count
///   void move(to, to_row, from, from_row, rows, dim)             bit for bit; only where span == 1
template <class F>
concept format = requires(const F f, const float* in, float* out, std::byte* tile, const std::byte* packed, int n) {
  { F::span } -> std::convertible_to<int>;
  { F::opens } -> std::convertible_to<bool>;
  f.check(n);
  { f.bytes(n, n) } -> std::same_as<std::size_t>;
  f.encode(in, n, tile, n, n, n);
  f.decode(packed, n, n, n, n, out);
};

/// A key format and a value format, with a full-precision window and sinks.
///   int window     newest rows of a head that stay in 16 bit           [rows]
///   int sinks      positions below this stay in 16 bit for good        [rows]
template <class P>
concept codec = format<typename P::key_format> && format<typename P::value_format> && requires(const P p) {
  { P::window } -> std::convertible_to<int>;
  { P::sinks } -> std::convertible_to<int>;
  { p.for_keys() } -> std::convertible_to<typename P::key_format>;
  { p.for_values() } -> std::convertible_to<typename P::value_format>;
};

/// Chooses packed pages. `selects` is false only for read_all.
///   size_t bytes(key_dim)                                          of a page's summary
///   void summarize(summary, keys[count, key_dim], count, key_dim, fresh)   adds rows; fresh = forget older ones
///   float bound(queries[count, stride], count, stride, summary, key_dim)   largest over the queries; larger = read
///   int pages(page_rows)                                           how many pages to read
/// May tell what bounds are made of, void extremes(summary, key_dim, least, most), so that a CPU finds most of the
/// pages without their summaries (page_extremes.hpp).
template <class P>
concept reader = requires(const P p, std::byte* summary, const float* x, int n) {
  { P::selects } -> std::convertible_to<bool>;
  { p.bytes(n) } -> std::same_as<std::size_t>;
  p.summarize(summary, x, n, n, true);
  { p.bound(x, n, n, summary, n) } -> std::same_as<float>;
  { p.pages(n) } -> std::same_as<int>;
};

/// Turns keys and queries by whole positions: angles(positions, dim, turns[dim]), then turn(x[dim], dim, turns).
template <class P>
concept rotator = requires(const P p, float* x, const float* turns, int n) {
  p.angles(n, n, x);
  p.turn(x, n, turns);
};

}  // namespace tersekv
