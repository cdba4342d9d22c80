// SPDX-License-Identifier: Apache-2.0
// What do the kernels of a commit cost beside a step's attention: appending and packing a row, the mass of attention,
// letting half of the rows go?
#include <tersekv/backend/cuda/apply.cuh>
#include <tersekv/backend/cuda/select.cuh>
#include <tersekv/budget/uniform.hpp>
#include <tersekv/codec/int4.hpp>
#include <tersekv/codec/kivi.hpp>
#include <tersekv/evict/h2o.hpp>
#include <tersekv/merge/drop.hpp>

#include "attend.cuh"
#include "session.hpp"

namespace bench {
namespace {

/// Heads with `rows` committed rows and room for some more, which kernels filled and which can be as they were again.
template <class Codec, int Columns>
class growing_rows {
 public:
  using page_type = kv::page_format<Codec, kv::read_all>;
  static constexpr int room = 64;  // rows that may still enter

  explicit growing_rows(batch_shape shape)
      : shape_(shape), page_(Codec{}, kv::read_all{}, dim, dim), rows_(shape.rows + room),
        pages_of_head_(static_cast<std::size_t>(rows_ / page_type::rows + 1)), pages_(shape.heads() * pages_of_head_),
        memory_(pages_ * page_.bytes()), tables_(pages_ * sizeof(std::byte*)), free_(pages_ * sizeof(std::byte*)),
        freed_(pages_ * sizeof(std::byte*)), counts_(2 * sizeof(int)),
        positions_(shape.heads() * at(rows_) * sizeof(int)),
        state_(normal(shape.heads() * at(rows_) * std::max(1, Columns), 7)),
        window_(shape.heads() * 2 * window_numbers * sizeof(kv::half)), heads_(shape.heads() * sizeof(kd::device_head)),
        keys_(normal_halves(at(shape.rows) * at(shape.kv_heads) * dim, 5)),
        values_(normal_halves(at(shape.rows) * at(shape.kv_heads) * dim, 6)),
        staged_state_(shape.heads() * at(shape.rows) * std::max(1, Columns) * sizeof(float)) {
    TERSEKV_CUDA(cudaMemsetAsync(staged_state_.template as<char>(), 0,
                                 shape.heads() * at(shape.rows) * std::max(1, Columns) * sizeof(float), stream()));
    make_heads();
    apply(shape.rows, nullptr, staged_state_.template as<float>(), shape.rows, shape.rows);
    length_ = shape.rows;
    for (const auto& [now, bytes] : changing()) {
      saved_.push_back(std::make_unique<device_memory>(bytes));
      copy_bytes(saved_.back()->template as<char>(), now, bytes);
    }
    saved_holders_ = std::make_unique<device_memory>(pages_ * sizeof(int));
    copy_holders(saved_holders_->template as<std::byte>(), sizeof(int), memory_.template as<std::byte>(),
                 page_.bytes());
  }

  /// Everything but the codes, which any page may keep.
  void restore() {
    auto from = saved_.begin();
    for (const auto& [now, bytes] : changing())
      TERSEKV_CUDA(cudaMemcpyAsync(now, (*from++)->template as<char>(), bytes, cudaMemcpyDefault, stream()));
    copy_holders(memory_.template as<std::byte>(), page_.bytes(), saved_holders_->template as<std::byte>(),
                 sizeof(int));
  }

  /// `accepted` staged rows enter; keep as in apply_batch.
  void apply(int accepted, const unsigned char* keep, const float* staged_state, int most_rows, int most_accepted) {
    if (accepted != accepted_ || length_ != applied_length_) {
      accepted_ = accepted, applied_length_ = length_;
      std::vector<kd::device_apply> all;
      for (int s = 0; s < shape_.sequences; ++s)
        all.push_back({heads() + std::ptrdiff_t{s} * shape_.kv_heads,
                       {array(keys_), 0},
                       {array(values_), 0},
                       length_,
                       accepted,
                       nullptr});
      sequences_ = std::make_unique<device_memory>(all);
    }
    const kd::apply_batch batch{sequences_->template as<kd::device_apply>(),
                                shape_.sequences,
                                1,
                                shape_.kv_heads,
                                Codec::window,
                                Codec::sinks,
                                most_rows,
                                most_accepted,
                                staged_state,
                                keep,
                                nullptr,
                                nullptr,
                                nullptr,
                                nullptr};
    kd::apply_rows<page_type, Columns, false>(page_, pool(), batch, nullptr, stream());
    kd::recycle_pages(pool(), stream());
  }
  /// One more row, at the end of every head.
  void append() { apply(1, nullptr, staged_state_.template as<float>(), rows_, 1); }
  /// So that a graph which captures append() allocates nothing.
  void prepare_append() {
    append();
    restore();
  }

  kd::device_head* heads() const { return heads_.template as<kd::device_head>(); }
  int length() const { return length_; }
  kd::slot_arrays staged_keys() const { return {array(keys_), 0}; }

 private:
  static constexpr int window_numbers = (Codec::window + 2 * page_type::span) * dim;
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }

  kd::device_array array(const device_memory& rows) const {
    return {rows.as<kv::half>(), kd::element::f16, shape_.kv_heads * dim, dim};
  }
  kd::device_pool pool() const {
    return {free_.template as<std::byte*>(), counts_.template as<int>(), freed_.template as<std::byte*>(),
            counts_.template as<int>() + 1, page_.bytes()};
  }
  std::vector<std::pair<void*, std::size_t>> changing() const {
    return {{heads_.template as<char>(), shape_.heads() * sizeof(kd::device_head)},
            {tables_.template as<char>(), pages_ * sizeof(std::byte*)},
            {free_.template as<char>(), pages_ * sizeof(std::byte*)},
            {counts_.template as<char>(), 2 * sizeof(int)},
            {positions_.template as<char>(), shape_.heads() * at(rows_) * sizeof(int)},
            {state_.template as<char>(), shape_.heads() * at(rows_) * std::max(1, Columns) * sizeof(float)}};
  }
  void copy_holders(std::byte* to, std::size_t to_stride, const std::byte* from, std::size_t from_stride) {
    TERSEKV_CUDA(
        cudaMemcpy2DAsync(to, to_stride, from, from_stride, sizeof(int), pages_, cudaMemcpyDeviceToDevice, stream()));
  }
  void make_heads() {
    std::vector<std::byte*> free(pages_);
    for (std::size_t p = 0; p < pages_; ++p) free[p] = memory_.template as<std::byte>() + p * page_.bytes();
    std::shuffle(free.begin(), free.end(), std::mt19937(3));
    copy_bytes(free_.template as<char>(), free.data(), pages_ * sizeof free[0]);
    const int counts[] = {static_cast<int>(pages_), 0};
    copy_bytes(counts_.template as<char>(), counts, sizeof counts);
    std::vector<kd::device_head> heads(shape_.heads());
    for (std::size_t h = 0; h < heads.size(); ++h) {
      heads[h] = {};
      heads[h].page = tables_.template as<std::byte*>() + h * pages_of_head_;
      heads[h].position = positions_.template as<int>() + h * at(rows_);
      heads[h].state = state_.template as<float>() + h * at(rows_) * Columns;
      heads[h].window_keys = window_.template as<kv::half>() + h * 2 * window_numbers;
      heads[h].window_values = heads[h].window_keys + window_numbers;
    }
    copy_bytes(heads_.template as<char>(), heads.data(), heads.size() * sizeof heads[0]);
  }

  batch_shape shape_;
  page_type page_;
  int rows_, length_ = 0, accepted_ = 0, applied_length_ = 0;
  std::size_t pages_of_head_, pages_;
  device_memory memory_, tables_, free_, freed_, counts_, positions_, state_, window_, heads_, keys_, values_,
      staged_state_;
  std::unique_ptr<device_memory> sequences_, saved_holders_;
  std::vector<std::unique_ptr<device_memory>> saved_;
};

recipe find(const std::string& name) {
  for (auto* all : {recipes_of_bytes, recipes_of_few_bits})
    for (recipe& r : all())
      if (r.name == name) return std::move(r);
  throw std::logic_error("gpu_bench: no recipe " + name);
}
std::unique_ptr<decoding> rows_of(const recipe& r, batch_shape shape, const session& s) {
  return r.make(shape, copies_of(r, shape, s));
}

template <class Codec>
void append(session& s, const std::string& name) {
  constexpr batch_shape shape{32, 4096};
  constexpr int steps = 32;  // one of them packs where rows are packed by spans
  growing_rows<Codec, 0> rows(shape);
  rows.prepare_append();
  const recipe r = find(name);
  const auto attention = rows_of(r, shape, s);
  std::vector<std::unique_ptr<graph>> all;
  all.push_back(attention->steps(4, steps_of(r, shape, s)));
  all.push_back(std::make_unique<graph>(
      steps, [&](int) { rows.append(); }, [&] { rows.restore(); }));
  const auto t = in_turn(all, s.rounds());
  const std::string part = "a row is appended at " + text(shape);
  s.records.push_back({part, name + ": attention", t[0], {{"of attention", 1}}});
  s.records.push_back({part, name + ": append and pack", t[1], {{"of attention", t[1].us / t[0].us}}});
}

void mass(session& s) {
  for (const batch_shape shape : {batch_shape{32, 4096}, batch_shape{32, 32768}, batch_shape{1, 32768}}) {
    const recipe r = find("int4<>");
    const auto rows = rows_of(r, shape, s);
    const int steps = steps_of(r, shape, s);
    std::vector<std::unique_ptr<graph>> all;
    all.push_back(rows->steps(4, steps));
    all.push_back(rows->steps(4, steps, true));
    const auto t = in_turn(all, s.rounds());
    const std::string part = "mass of attention, as h2o reads it, at " + text(shape);
    s.records.push_back({part, "int4<>: attention", t[0], {{"of attention", 1}}});
    s.records.push_back({part, "int4<>: attention and mass", t[1], {{"of attention", t[1].us / t[0].us}}});
  }
}

void trim(session& s, batch_shape shape) {
  constexpr int columns = kv::h2o::columns;
  const kv::h2o evict{.heavy = shape.rows / 4, .recent = shape.rows / 4};
  growing_rows<kv::int4<>, columns> rows(shape);
  const int stride = shape.rows + 1;
  const device_memory mass(normal(shape.heads() * static_cast<std::size_t>(stride), 8));
  const device_memory slot_of_layer(std::vector<int>{0});
  std::vector<kd::device_commit> commits;
  for (int q = 0; q < shape.sequences; ++q)
    commits.push_back({rows.heads() + std::ptrdiff_t{q} * shape.kv_heads, rows.staged_keys(),
                       mass.as<float>() + std::ptrdiff_t{q} * shape.kv_heads * stride, nullptr, nullptr, stride,
                       rows.length(), 0, 1, 1, 1, 1, 0, true});
  const device_memory batch(commits);
  const kd::commit_shape c{shape.sequences,         1,       shape.kv_heads, 0, 1, dim, dim, 1,
                           slot_of_layer.as<int>(), nullptr, stride,         1};
  kd::carver count(nullptr);
  kd::carve_lists<kv::h2o>(count, c, columns);
  const device_memory workspace(count.bytes());
  kd::carver carve(workspace.as<char>());
  const kd::list_arguments<kv::h2o> a{
      {batch.as<kd::device_commit>(), c, kd::carve_lists<kv::h2o>(carve, c, columns)}, evict, columns};
  const auto choose = [&] {
    kd::observe_rows(evict, kv::drop{}, batch.as<kd::device_commit>(), c, a.lists, stream());
    kd::list_rows(a, stream());
    kd::select_rows(a, kv::uniform{}, stream());
  };
  const auto leave = [&] { rows.apply(1, a.lists.keep, a.lists.staged_state, stride, 1); };
  choose();
  leave();
  rows.restore();
  std::vector<std::unique_ptr<graph>> all;  // one step each: it changes what it works on
  all.push_back(std::make_unique<graph>(
      1, [&](int) { choose(); }, [&] { rows.restore(); }));
  all.push_back(std::make_unique<graph>(
      1, [&](int) { leave(); },
      [&] {
        rows.restore();
        choose();
      }));
  const auto t = in_turn(all, s.rounds());
  const std::string part = "half of the rows leave at " + text(shape);
  s.records.push_back({part, "h2o, int4<>: choose", t[0], {}});
  s.records.push_back({part, "h2o, int4<>: leave, and pages are filled up", t[1], {}});
}

}  // namespace

void commit(session& s) {
  append<kv::int4<>>(s, "int4<>");
  append<kv::kivi<2>>(s, "kivi<2>");
  mass(s);
  s.save();
  for (const int sequences : {1, 16}) trim(s, {sequences, 32768});
}

}  // namespace bench
