// SPDX-License-Identifier: Apache-2.0
// One conversation: per slot and head its rows, and what policies remember about it. Freed when it goes out of scope.
#pragma once
#include <memory>
#include <vector>

#include <tersekv/core.hpp>
#include <tersekv/report.hpp>

namespace tersekv {

template <class Core>
class basic_step;

namespace detail {
template <class Core, class Sequence>
class commit_job;
template <class Core, class Sequence>
class newest_queries;
struct sequence_parts;  // for tests that look at stored bytes

inline position_range checked_range(int first, int last) {
  if (first < 0 || last < first)
    throw shape_error("tersekv::sequence::protect: [" + std::to_string(first) + ", " + std::to_string(last) +
                      ") is not a range of positions");
  return {first, last};
}
}  // namespace detail

/// Options of a step.
struct step_options {
  bool more = false;    // a prompt chunk that another one follows: policies that wait for the end of the prompt wait on
  int question = 0;     // the last `question` tokens' queries are not observed by policies
  bool decode = false;  // several tokens of decoding (drafts to be verified), not a prompt
};

template <class Core>
class basic_sequence {
 public:
  explicit basic_sequence(std::shared_ptr<Core> core) : core_(std::move(core)), ring_(core_->memory) {
    const int heads = core_->plan.slots() * core_->shape.kv_heads;
    for (int i = 0; i < heads; ++i) heads_.emplace_back(core_->memory);
    merge_state_.resize(heads_.size());
    core_->enter(this);
  }
  /// Not while a step is open.
  basic_sequence(basic_sequence&& other) noexcept
      : core_(other.core_), heads_(std::move(other.heads_)), merge_state_(std::move(other.merge_state_)),
        ranges_(std::move(other.ranges_)), ring_(std::move(other.ring_)), ring_queries_(other.ring_queries_),
        ring_position_(other.ring_position_), length_(other.length_), decoded_(other.decoded_),
        in_prompt_(other.in_prompt_) {
    core_->replace(&other, this);
  }
  basic_sequence& operator=(basic_sequence&& other) noexcept {
    if (this != &other) {  // rows must go before the pool that holds them
      this->~basic_sequence();
      new (this) basic_sequence(std::move(other));
    }
    return *this;
  }
  ~basic_sequence() { core_->leave(this); }

  /// n >= 1 new tokens. Only one step of a sequence is open at a time; it ends by commit or by destruction.
  basic_step<Core> step(int n, step_options options = {}) { return basic_step<Core>(*this, n, options); }

  /// A second sequence with the same past. Pages are shared until one side changes them; windows and columns are
  /// copied.
  basic_sequence fork() const {
    require_closed("fork");
    return basic_sequence(*this);
  }

  /// Tokens seen = absolute position of the next one.
  int length() const { return length_; }
  /// Rows that a head of a slot holds.
  int rows(int slot, int head) const { return at(slot, head).live(); }
  /// Positions of these rows, ascending.
  std::vector<int> positions(int slot, int head) const {
    std::vector<int> out;
    for (const int p : at(slot, head).position())
      if (p >= 0) out.push_back(p);
    return out;
  }
  /// Rows at first <= position < last never leave this sequence (system prompts, policies, tools).
  void protect(int first, int last) { ranges_.push_back(detail::checked_range(first, last)); }
  report_data report() const {
    report_data out;
    add_to(out);
    finish_report(out, core_->shape, core_->plan);
    return out;
  }
  /// Row indices that a head uses, dead packed rows included.
  int slots_of(int slot, int head) const { return at(slot, head).slots(); }
  /// Adds this sequence's rows and bytes to a report.
  void add_to(report_data& out) const {
    out.tokens += static_cast<std::size_t>(length_);
    ++out.sequences;
    out.ring_bytes += ring_.held();
    for (int s = 0; s < core_->plan.slots(); ++s)
      for (int h = 0; h < core_->shape.kv_heads; ++h) {
        const auto& head = at(s, h);
        out.rows_kept += static_cast<std::size_t>(head.live());
        out.kept.push_back({s, h, head.live(), head.packed(), head.window() + head.sinks()});
        out.page_bytes += static_cast<std::size_t>(head.pages()) * core_->format.bytes();
        out.column_bytes += head.column_bytes();
        out.window_bytes += head.buffer_bytes() - head.column_bytes();
      }
  }

 private:
  friend class basic_step<Core>;
  friend struct detail::sequence_parts;
  template <class, class>
  friend class detail::commit_job;
  template <class, class>
  friend class detail::newest_queries;
  using rows_type = typename Core::rows;

  basic_sequence(const basic_sequence& other)
      : core_(other.core_), heads_(other.heads_), merge_state_(other.merge_state_), ranges_(other.ranges_),
        ring_(other.ring_), ring_queries_(other.ring_queries_), ring_position_(other.ring_position_),
        length_(other.length_), decoded_(other.decoded_), in_prompt_(other.in_prompt_) {
    core_->enter(this);
  }

  void require_closed(const char* verb) const {
    if (open_)
      throw usage_error(std::string("tersekv::sequence::") + verb + ": a step is open; commit or drop it first");
  }
  std::size_t index(int slot, int head) const {
    if (slot < 0 || slot >= core_->plan.slots() || head < 0 || head >= core_->shape.kv_heads)
      throw shape_error("tersekv::sequence: slot " + std::to_string(slot) + ", head " + std::to_string(head) +
                        "; there are " + std::to_string(core_->plan.slots()) + " slots of " +
                        std::to_string(core_->shape.kv_heads) + " heads");
    return static_cast<std::size_t>(slot * core_->shape.kv_heads + head);
  }
  rows_type& at(int slot, int head) { return heads_[index(slot, head)]; }
  const rows_type& at(int slot, int head) const { return heads_[index(slot, head)]; }

  std::shared_ptr<Core> core_;
  std::vector<rows_type> heads_;                                    // [slots, kv_heads]
  std::vector<typename Core::merge_type::head_state> merge_state_;  // [slots, kv_heads]
  std::vector<position_range> ranges_;
  buffer<half> ring_;  // [layers, ring_queries_, query_heads, key_dim] newest queries of a chunked prompt
  int ring_queries_ = 0;
  int ring_position_ = 0;  // absolute position of the ring's first query
  int length_ = 0;
  int decoded_ = 0;         // tokens decoded so far
  bool in_prompt_ = false;  // the last step was marked `more`
  bool open_ = false;       // a step is open
};

}  // namespace tersekv
