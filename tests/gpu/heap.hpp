// SPDX-License-Identifier: Apache-2.0
// Pieces of one range of memory. What describes them stands elsewhere, in what malloc gives: a kernel that writes past
// the end of its piece does not break the heap.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <utility>

namespace gpu {

class heap {
 public:
  static constexpr std::size_t granule = 256;  // cudaMalloc aligns to as much

  /// begin, bytes: multiples of the granule.
  heap(std::byte* begin, std::size_t bytes) : begin_(begin), end_(begin + bytes) { add_free(begin, bytes); }

  bool has(const void* p) const { return p >= begin_ && p < end_; }

  /// Null where no piece is long enough. alignment: a power of two.
  void* take(std::size_t n, std::size_t alignment = granule) {
    const std::size_t bytes = (n > 0 ? n + granule - 1 : granule) / granule * granule;
    const std::lock_guard lock(one_);
    // The shortest that fits wherever it begins.
    const auto found = by_length_.lower_bound({bytes + (alignment > granule ? alignment - granule : 0), nullptr});
    if (bytes < n || found == by_length_.end()) return nullptr;
    const auto [length, first] = *found;
    remove_free(first, length);
    const std::size_t ahead = (alignment - reinterpret_cast<std::uintptr_t>(first) % alignment) % alignment;
    if (ahead > 0) add_free(first, ahead);
    if (ahead + bytes < length) add_free(first + ahead + bytes, length - ahead - bytes);
    taken_[first + ahead] = bytes;
    return first + ahead;
  }
  void give_back(void* p) {
    const std::lock_guard lock(one_);
    const auto own = taken_.find(static_cast<std::byte*>(p));
    if (own == taken_.end()) std::abort();  // twice, or not the beginning of a piece
    std::byte* first = own->first;
    std::size_t length = own->second;
    taken_.erase(own);
    const auto next = free_.find(first + length);
    if (next != free_.end()) {
      length += next->second;
      remove_free(next->first, next->second);
    }
    const auto previous = free_.lower_bound(first);
    if (previous != free_.begin()) {
      const auto [before, its_length] = *std::prev(previous);
      if (before + its_length == first) {
        remove_free(before, its_length);
        first = before, length += its_length;
      }
    }
    add_free(first, length);
  }

 private:
  template <class T>
  struct from_malloc {  // the heap may be what operator new takes from
    using value_type = T;
    from_malloc() = default;
    template <class U>
    from_malloc(const from_malloc<U>&) {}
    T* allocate(std::size_t n) {
      if (void* p = std::malloc(n * sizeof(T))) return static_cast<T*>(p);
      throw std::bad_alloc();
    }
    void deallocate(T* p, std::size_t) { std::free(p); }
    bool operator==(const from_malloc&) const { return true; }
  };
  using lengths = std::map<std::byte*, std::size_t, std::less<>, from_malloc<std::pair<std::byte* const, std::size_t>>>;
  using length_first = std::pair<std::size_t, std::byte*>;

  void add_free(std::byte* first, std::size_t length) {
    free_[first] = length;
    by_length_.insert({length, first});
  }
  void remove_free(std::byte* first, std::size_t length) {
    free_.erase(first);
    by_length_.erase({length, first});
  }

  std::byte *begin_, *end_;
  lengths free_, taken_;  // no two free pieces touch
  std::set<length_first, std::less<>, from_malloc<length_first>> by_length_;
  std::mutex one_;
};

}  // namespace gpu
