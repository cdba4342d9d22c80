// SPDX-License-Identifier: Apache-2.0
// Which slot every layer reads: the answer of a share policy, checked once when a cache is made.
// Notation of whyNLP/LCKV: one item per layer, joined by '_'; item i is kv(i), the layer whose keys and values layer i
// reads; a suffix 's' limits that reader to the sliding window. Example: 0_6_6_6_6_6_6_7 is LCKV with w = 2.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <tersekv/error.hpp>

namespace tersekv {

/// May a token see its own entry? `upward_only`: not where a layer reads a slot written above it (there it does not
/// exist yet). `everywhere`: nowhere (checkpoints of the LCKV paper's first code).
enum class masked_diagonal : unsigned char { upward_only, everywhere };

/// Layers first..last are run `passes` times over a prompt; the rows staged by the last pass count.
struct layer_range {
  int first, last, passes;
};

namespace detail {

/// visit(item as written, its layer number or -1)
template <class Visit>
constexpr void for_each_map_item(std::string_view text, Visit&& visit) {
  for (std::size_t begin = 0; begin <= text.size();) {
    std::size_t end =
        begin;  // not text.find(): under -fsanitize=undefined g++ 12 calls it no constant for a map's text
    while (end < text.size() && text[end] != '_') ++end;
    const std::string_view item = text.substr(begin, end - begin);
    std::string_view digits = item;
    if (!digits.empty() && digits.back() == 's') digits.remove_suffix(1);
    int layer = digits.empty() || digits.size() > 6 ? -1 : 0;
    for (const char c : digits) layer = layer < 0 || c < '0' || c > '9' ? -1 : layer * 10 + (c - '0');
    visit(item, layer);
    begin = end + 1;
  }
}

}  // namespace detail

class layer_plan {
 public:
  /// kv_layer[i] = layer whose rows layer i reads; windowed[i] = that reader sees the newest `window` positions only.
  /// passes: how often a closed range is repeated over a prompt, at most.
  /// Throws shape_error when a layer index is out of range.
  explicit layer_plan(std::vector<int> kv_layer, std::vector<bool> windowed = {}, int window = 0,
                      masked_diagonal diagonal = masked_diagonal::upward_only, int passes = 9)
      : kv_layer_(std::move(kv_layer)), windowed_(std::move(windowed)), window_(window), diagonal_(diagonal),
        passes_(passes) {
    const int n = layers();
    windowed_.resize(kv_layer_.size(), false);
    if (n < 1) throw shape_error("tersekv::layer_plan: no layers");
    if (passes_ < 1) throw shape_error("tersekv::layer_plan: passes is " + std::to_string(passes_) + ", must be >= 1");
    slot_of_writer_.assign(kv_layer_.size(), -1);
    for (int i = 0; i < n; ++i) {
      const int c = kv(i);
      if (c < 0 || c >= n)
        throw shape_error("tersekv::layer_plan: layer " + std::to_string(i) + " reads layer " + std::to_string(c) +
                          ", but there are layers 0 to " + std::to_string(n - 1));
      if (windowed_[at(i)] && window_ < 1)
        throw shape_error("tersekv::layer_plan: layer " + std::to_string(i) + " is windowed ('s'), but the window is " +
                          std::to_string(window_) + "; give one >= 1");
      slot_of_writer_[at(c)] = 0;
    }
    for (int i = 0; i < n; ++i)
      if (slot_of_writer_[at(i)] == 0) {
        slot_of_writer_[at(i)] = slots();
        writer_.push_back(i);
      }
  }

  /// Parses "0_1_1s_..."; `window` applies to the items marked 's'. Throws shape_error with the offending item.
  static layer_plan parse(std::string_view text, int window = 4096,
                          masked_diagonal diagonal = masked_diagonal::upward_only, int passes = 9) {
    std::vector<int> kv;
    std::vector<bool> windowed;
    detail::for_each_map_item(text, [&](std::string_view item, int layer) {
      if (layer < 0)
        throw shape_error("tersekv::layer_plan: item " + std::to_string(kv.size()) + " of \"" + std::string(text) +
                          "\" is \"" + std::string(item) +
                          "\"; write layer numbers joined by '_', each with an optional 's'");
      kv.push_back(layer);
      windowed.push_back(item.back() == 's');
    });
    return layer_plan(std::move(kv), std::move(windowed), window, diagonal, passes);
  }
  /// Items of a map, 0 when one of them is malformed; and the largest layer number among them.
  static constexpr int items(std::string_view text) {
    int count = 0;
    bool good = true;
    detail::for_each_map_item(text, [&](std::string_view, int layer) { ++count, good = good && layer >= 0; });
    return good ? count : 0;
  }
  static constexpr int largest_item(std::string_view text) {
    int largest = -1;
    detail::for_each_map_item(text, [&](std::string_view, int layer) { largest = std::max(largest, layer); });
    return largest;
  }

  /// The notation of this plan, as parse() reads it.
  std::string text() const {
    std::string out;
    for (int i = 0; i < layers(); ++i) out += (i ? "_" : "") + std::to_string(kv(i)) + (windowed_[at(i)] ? "s" : "");
    return out;
  }

  int layers() const { return static_cast<int>(kv_layer_.size()); }
  int slots() const { return static_cast<int>(writer_.size()); }
  int kv(int layer) const { return kv_layer_[at(layer)]; }
  int slot(int layer) const { return slot_of_writer_[at(kv(layer))]; }
  int writer(int slot) const { return writer_[at(slot)]; }
  bool owns(int layer) const { return slot_of_writer_[at(layer)] >= 0; }
  /// The slot that `layer` writes; -1 when it writes none.
  int written_slot(int layer) const { return slot_of_writer_[at(layer)]; }
  bool reads_upward(int layer) const { return kv(layer) > layer; }
  bool sees_self(int layer) const { return diagonal_ == masked_diagonal::upward_only && !reads_upward(layer); }
  /// Newest positions that `layer` sees, its own included; 0 = all.
  int window(int layer) const { return windowed_[at(layer)] ? window_ : 0; }
  /// Positions that a slot must retain for its readers; 0 = all.
  int retained(int slot) const {
    for (int i = 0; i < layers(); ++i)
      if (this->slot(i) == slot && !windowed_[at(i)]) return 0;
    return window_;
  }
  int passes() const { return passes_; }
  bool cyclic() const {
    for (int i = 0; i < layers(); ++i)
      if (reads_upward(i)) return true;
    return false;
  }

  /// The order in which n new tokens visit the layers. A range of layers closed under upward reads is repeated: one
  /// pass suffices for one token, n passes are exact for n tokens, so min(n, passes()) are asked for.
  std::vector<layer_range> schedule(int n) const {
    std::vector<layer_range> out;
    int begin = 0;
    for (int i = 0; i < layers();) {
      if (!reads_upward(i)) {
        ++i;
        continue;
      }
      int top = kv(i);
      for (int j = i; j <= top; ++j) top = std::max(top, kv(j));
      if (begin < i) out.push_back({begin, i - 1, 1});
      out.push_back({i, top, std::max(1, std::min(n, passes_))});
      i = begin = top + 1;
    }
    if (begin < layers()) out.push_back({begin, layers() - 1, 1});
    return out;
  }

  friend bool operator==(const layer_plan&, const layer_plan&) = default;

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }

  std::vector<int> kv_layer_;
  std::vector<bool> windowed_;
  int window_;
  masked_diagonal diagonal_;
  int passes_;
  std::vector<int> slot_of_writer_;  // [layers] -1 = writes nothing
  std::vector<int> writer_;          // [slots]
};

}  // namespace tersekv
