// SPDX-License-Identifier: Apache-2.0
// One conversation on a device. What its heads hold stands in device memory, counts included; the host knows upper
// bounds, and looks only when room runs short, when a prompt was trimmed, or when it is asked.
#pragma once
#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include <tersekv/backend/cuda/core.cuh>
#include <tersekv/backend/cuda/heads.cuh>
#include <tersekv/backend/cuda/write.cuh>
#include <tersekv/config.hpp>
#include <tersekv/report.hpp>
#include <tersekv/sequence.hpp>

namespace tersekv {

template <class Core>
class device_step;

template <class Core>
class device_sequence;

namespace detail {
template <class Core>
class commit_part;
template <class Core>
class device_commit_job;
template <class Core>
class query_window;
template <class Core>
class layer_attention;
template <class Core>
class device_batch;
}  // namespace detail

template <class Core>
class device_sequence {
 public:
  explicit device_sequence(std::shared_ptr<Core> core)
      : core_(std::move(core)), heads_(core_->memory), piece_(core_->memory), merge_state_(core_->memory),
        length_there_(core_->memory), queries_(core_->memory), ring_(core_->memory) {
    open_room(Core::page::rows);
    const auto heads = static_cast<std::size_t>(count());
    heads_.renew(heads), piece_.renew(heads * room_.bytes()), merge_state_.renew(heads), length_there_.renew(1);
    place(nullptr, heads_, piece_);
    detail::fill_on_device(merge_state_.data(), 0, merge_state_.held(), stream());
    detail::fill_on_device(length_there_.data(), 0, sizeof(int), stream());
    core_->enter(this);
  }
  /// Not while a step is open.
  device_sequence(device_sequence&& other) noexcept : device_sequence(other, std::move(other.heads_)) {
    TERSEKV_ASSERT(!other.open_);
    core_->replace(&other, this);
  }
  device_sequence& operator=(device_sequence&& other) noexcept {
    if (this != &other) {
      this->~device_sequence();
      new (this) device_sequence(std::move(other));
    }
    return *this;
  }
  ~device_sequence() {
    core_->leave(this);
    if (heads_.size() > 0) try {
        detail::release_heads<Core::page::rows>(heads_.data(), count(), core_->pages.pages(), stream());
      } catch (...) {  // the device is lost, and its memory with it
        detail::forget_error();
      }
  }

  device_step<Core> step(int n, step_options options = {}) { return device_step<Core>(*this, n, options); }

  device_sequence fork() const {
    require_closed("fork");
    return device_sequence(*this);
  }

  int length() const { return length_; }
  int rows(int slot, int head) const {
    const detail::device_head h = look_at(slot, head);
    return h.rows() - h.dead;
  }
  std::vector<int> positions(int slot, int head) const {
    const detail::device_head h = look_at(slot, head);
    std::vector<int> all(static_cast<std::size_t>(h.rows()));
    detail::copy_to_host(all.data(), h.position, all.size() * sizeof(int), stream());
    std::erase(all, -1);
    return all;
  }
  void protect(int first, int last) { ranges_.push_back(detail::checked_range(first, last)); }
  report_data report() const {
    report_data out;
    add_to(out);
    finish_report(out, core_->shape, core_->plan);
    return out;
  }
  void add_to(report_data& out) const {
    out.tokens += static_cast<std::size_t>(length_);
    ++out.sequences;
    out.ring_bytes += ring_.held();
    const std::vector<detail::device_head> heads = look();
    const int per_slot = core_->shape.kv_heads;
    const std::size_t full = room_.numbers(room_.sinks) + room_.numbers(room_.window);
    for (int i = 0; i < count(); ++i) {
      const detail::device_head& h = heads[static_cast<std::size_t>(i)];
      const int live = h.rows() - h.dead;
      out.rows_kept += static_cast<std::size_t>(live);
      out.kept.push_back({i / per_slot, i % per_slot, live, h.packed, h.window + h.sinks});
      const int pages = (h.packed + Core::page::rows - 1) / Core::page::rows;
      out.page_bytes += static_cast<std::size_t>(pages) * core_->pages.page_bytes();
      out.window_bytes += full;
      out.column_bytes += room_.bytes() - full;
    }
  }

 private:
  friend class device_step<Core>;
  friend struct detail::sequence_parts;
  friend class detail::commit_part<Core>;
  friend class detail::device_commit_job<Core>;
  friend class detail::query_window<Core>;
  friend class detail::layer_attention<Core>;
  friend class detail::device_batch<Core>;

  device_sequence(const device_sequence& other)
      : core_(other.core_), heads_(core_->memory, other.heads_.size()), piece_(core_->memory, other.piece_.size()),
        merge_state_(copy_of(other.merge_state_)), length_there_(copy_of(other.length_there_)), queries_(core_->memory),
        ring_(copy_of(other.ring_)), room_(other.room_), ranges_(other.ranges_), ring_queries_(other.ring_queries_),
        ring_position_(other.ring_position_), rows_most_(other.rows_most_), length_(other.length_),
        decoded_(other.decoded_), in_prompt_(other.in_prompt_), family_(other.family()) {
    place(other.heads_.data(), heads_, piece_);
    detail::share_heads<Core::page::rows>(heads_.data(), count(), stream());
    other.epoch_ = -1;  // pages that were promised for copies may be gone, and all are shared again
    core_->enter(this);
  }
  device_sequence(device_sequence& other, detail::device_buffer<detail::device_head>&& heads) noexcept
      : core_(other.core_), heads_(std::move(heads)), piece_(std::move(other.piece_)),
        merge_state_(std::move(other.merge_state_)), length_there_(std::move(other.length_there_)),
        queries_(std::move(other.queries_)), ring_(std::move(other.ring_)), room_(other.room_),
        ranges_(std::move(other.ranges_)), described_(std::move(other.described_)), ring_queries_(other.ring_queries_),
        ring_position_(other.ring_position_), rows_most_(other.rows_most_), length_(other.length_),
        decoded_(other.decoded_), epoch_(other.epoch_), since_(other.since_), promised_(other.promised_),
        in_prompt_(other.in_prompt_), family_(std::move(other.family_)) {}

  cuda_stream stream() const { return core_->backend.stream; }
  int count() const { return core_->plan.slots() * core_->shape.kv_heads; }
  void require_closed(const char* verb) const {
    if (open_)
      throw usage_error(std::string("tersekv::sequence::") + verb + ": a step is open; commit or drop it first");
  }
  template <class T>
  detail::device_buffer<T> copy_of(const detail::device_buffer<T>& from) const {
    detail::device_buffer<T> to(core_->memory, from.size());
    detail::copy_on_device(to.data(), from.data(), from.held(), stream());
    return to;
  }

  const std::shared_ptr<const char>& family() const {
    if (!family_) family_ = std::make_shared<const char>();
    return family_;
  }

  // --------------------------------------------------------------------------------------------------------- looking
  std::vector<detail::device_head> look() const {
    std::vector<detail::device_head> heads(heads_.size());
    detail::copy_to_host(heads.data(), heads_.data(), heads_.held(), stream());
    return heads;
  }
  detail::device_head look_at(int slot, int head) const {
    if (slot < 0 || slot >= core_->plan.slots() || head < 0 || head >= core_->shape.kv_heads)
      throw shape_error("tersekv::sequence: slot " + std::to_string(slot) + ", head " + std::to_string(head) +
                        "; there are " + std::to_string(core_->plan.slots()) + " slots of " +
                        std::to_string(core_->shape.kv_heads) + " heads");
    detail::device_head h;
    detail::copy_to_host(&h, heads_.data() + slot * core_->shape.kv_heads + head, sizeof h, stream());
    return h;
  }

  // ------------------------------------------------------------------------------------------------------------ room
  void open_room(int rows) {
    constexpr int span = Core::page::span;
    room_ = {rows,
             core_->codec.sinks,
             core_->codec.window + (span > 1 || core_->codec.window > 0 ? 2 * span : 0),
             Core::page::rows,
             Core::columns,
             core_->shape.head_dim,
             core_->shape.value_dim,
             Core::biased};
  }
  void place(const detail::device_head* from, const detail::device_buffer<detail::device_head>& to,
             const detail::device_buffer<std::byte>& piece) {
    detail::launch(detail::place_heads<>, dim3(static_cast<unsigned>(count())), dim3(detail::place_threads), 0,
                   stream(), {to.data(), from, piece.data(), room_});
  }
  void count_exactly() {
    int most = 0;
    for (const detail::device_head& h : look()) most = std::max(most, h.rows());
    rows_most_ = most;
  }
  /// Whether the longest head may be shorter than the sequence.
  bool rows_leave() const {
    for (int s = 0; s < core_->plan.slots(); ++s)
      if (!Core::evicts && core_->plan.retained(s) == 0) return false;
    return true;
  }
  void resize_rows(int rows) {
    const detail::head_room before = room_;
    open_room(rows);
    try {
      detail::device_buffer<std::byte> piece(core_->memory, static_cast<std::size_t>(count()) * room_.bytes());
      place(heads_.data(), heads_, piece);
      piece_ = std::move(piece);
    } catch (...) {
      room_ = before;
      throw;
    }
  }

  /// Room for `accepted` more rows per head, which count from now on. Throws capacity_error; nothing has changed then.
  void reserve(int accepted) {
    if (rows_most_ + accepted > room_.rows) {
      if (rows_leave()) count_exactly();
      const int need = rows_most_ + accepted;
      if (need > room_.rows) resize_rows(need + std::max(4 * Core::page::rows, need / 8));
    }
    rows_most_ += accepted;
    if (epoch_ != core_->pages.epoch()) begin_epoch(0, 0);
    since_ += accepted;
  }
  /// Pages that commits of these rows may take and that were not promised.
  int pages_missing() const { return std::max(0, most_pages(since_) - promised_); }
  /// What was reserved and will not be used. Pages stay promised: the next commit needs them.
  void give_back(int accepted) { rows_most_ -= accepted, since_ -= accepted; }
  void begin_epoch(int since, int promised) { epoch_ = core_->pages.epoch(), since_ = since, promised_ = promised; }
  /// That commits of `rows` rows in all may take: for the rows, which begin a page; for one by way of which others are
  /// joined; for a copy of each page that is shared.
  int most_pages(int rows) const {
    constexpr int of_page = Core::page::rows;
    const int copies = family_.use_count() > 1 ? (rows_most_ + of_page - 1) / of_page : 0;
    return count() * ((rows + Core::page::span - 1) / of_page + 2 + copies);
  }
  /// After a trim of a prompt: the columns of rows that left are given back. Best effort: the commit has happened.
  void fit() try {
    count_exactly();
    const int need = rows_most_ + 4 * Core::page::rows;
    if (room_.rows > 2 * need) resize_rows(need);
  } catch (const capacity_error&) {  // no memory for the smaller piece beside the larger one, which stays
  } catch (const std::bad_alloc&) {
  }

  /// The description of an attention of `layer`, written when it is new: engines mostly use the same memory again.
  const detail::device_query* describe(int layer, const detail::device_query& query) {
    const auto layers = static_cast<std::size_t>(core_->shape.layers);
    if (described_.empty()) {
      queries_.renew(layers);
      described_.resize(layers);
    }
    detail::device_query& known = described_[static_cast<std::size_t>(layer)];
    if (known != query) {
      detail::write_bytes(queries_.data() + layer, &query, sizeof query, stream());
      known = query;
    }
    return queries_.data() + layer;
  }

  std::shared_ptr<Core> core_;
  detail::device_buffer<detail::device_head> heads_;  // [slots, kv_heads]
  detail::device_buffer<std::byte> piece_;            // [slots, kv_heads, room.bytes()]
  detail::device_buffer<typename Core::merge_type::head_state> merge_state_;
  detail::device_buffer<int> length_there_;  // as kernels read it
  detail::device_buffer<detail::device_query> queries_;
  detail::device_buffer<half> ring_;  // [layers, ring_queries_, query_heads, key_dim], as on the CPU
  detail::head_room room_{};
  std::vector<position_range> ranges_;
  std::vector<detail::device_query> described_;  // [layers] as they stand in queries_
  int ring_queries_ = 0, ring_position_ = 0;
  int rows_most_ = 0;  // rows of the longest head, at most
  int length_ = 0, decoded_ = 0;
  mutable int epoch_ = -1;        // of the page store, -1 = to begin anew, in which
  int since_ = 0, promised_ = 0;  // rows were committed, pages promised
  bool in_prompt_ = false, open_ = false;
  mutable std::shared_ptr<const char> family_;  // held by all sequences that pages may be shared with
};

}  // namespace tersekv
