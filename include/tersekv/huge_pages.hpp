// SPDX-License-Identifier: Apache-2.0
// A memory resource whose blocks lie in pages of 2 MiB, which decode attention reads faster than pages of 4 KiB:
//
//   kv::huge_pages memory;  // outlives the cache
//   auto cache = kv::make_cache(shape, kv::cpu{.memory = &memory}, ...);
//
// Blocks are cut from slabs of 2 MiB, at the lowest address that has room, so that slabs at high addresses run empty;
// an empty slab goes back to the system, but for one. Blocks larger than half a slab have a mapping of their own. Linux
// is asked for pages of that size and gives small ones where it has no others; elsewhere the slabs are plain memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory_resource>
#include <mutex>
#include <new>
#include <utility>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tersekv {

/// May be used from several threads. Giving back cannot fail.
class huge_pages final : public std::pmr::memory_resource {
 public:
  static constexpr std::size_t slab_bytes = std::size_t{1} << 21;

  huge_pages() = default;
  huge_pages(const huge_pages&) = delete;
  huge_pages& operator=(const huge_pages&) = delete;
  ~huge_pages() override {
    for (const slab& s : slabs_) unmap(s.begin, slab_bytes);
  }

  /// Bytes that the system was asked for and has not got back: whole slabs, so more than a cache reports.
  std::size_t held() const {
    const std::scoped_lock lock(mutex_);
    return held_;
  }

 private:
  static constexpr std::size_t grain = 64;  // of blocks in slabs

  struct range {
    std::uint32_t begin, end;  // bytes of a slab
    std::uint32_t size() const { return end - begin; }
  };
  struct slab {
    std::vector<range> free;  // by address; there is always room for one more than blocks could leave
    std::byte* begin;
    std::size_t blocks = 0;
  };

  static std::size_t rounded(std::size_t bytes, std::size_t to) {
    return (std::max<std::size_t>(bytes, 1) + to - 1) / to * to;
  }
  static std::size_t mapped(std::size_t bytes) { return rounded(bytes, 4096); }
  static bool stands_alone(std::size_t bytes, std::size_t alignment) {
    return bytes > slab_bytes / 2 || alignment > grain;
  }

  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (bytes > ~std::size_t{0} / 2 || alignment > slab_bytes) throw std::bad_alloc();
    const std::scoped_lock lock(mutex_);
    if (stands_alone(bytes, alignment)) return map(mapped(bytes));
    const auto size = static_cast<std::uint32_t>(rounded(bytes, grain));
    const auto enough = std::find_if(room_.begin(), room_.end(), [&](std::uint32_t room) { return room >= size; });
    const std::size_t i = enough != room_.end() ? static_cast<std::size_t>(enough - room_.begin()) : add_slab();
    slab& s = slabs_[i];
    if (s.free.capacity() < s.blocks + 3) s.free.reserve(2 * (s.blocks + 3));
    const auto from = std::find_if(s.free.begin(), s.free.end(), [&](range r) { return r.size() >= size; });
    const bool was_largest = from->size() == room_[i];
    void* p = s.begin + from->begin;
    from->begin += size;
    if (from->size() == 0) s.free.erase(from);
    if (was_largest) room_[i] = largest(s);
    if (s.blocks++ == 0) --empty_;
    return p;
  }

  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    const std::scoped_lock lock(mutex_);
    if (stands_alone(bytes, alignment)) return unmap(p, mapped(bytes));
    const auto after = std::upper_bound(slabs_.begin(), slabs_.end(), static_cast<std::byte*>(p),
                                        [](const std::byte* x, const slab& s) { return x < s.begin; });
    const auto i = static_cast<std::size_t>(after - slabs_.begin()) - 1;
    slab& s = slabs_[i];
    const auto begin = static_cast<std::uint32_t>(static_cast<std::byte*>(p) - s.begin);
    range whole{begin, begin + static_cast<std::uint32_t>(rounded(bytes, grain))};
    auto at = std::find_if(s.free.begin(), s.free.end(), [&](range r) { return r.end >= whole.begin; });
    if (at != s.free.end() && at->end == whole.begin) {
      whole.begin = at->begin;
      at = s.free.erase(at);
    }
    if (at != s.free.end() && at->begin == whole.end) {
      whole.end = at->end;
      at = s.free.erase(at);
    }
    s.free.insert(at, whole);
    room_[i] = std::max(room_[i], whole.size());
    if (--s.blocks == 0 && ++empty_ > 1) remove_slab(i);
  }

  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  static std::uint32_t largest(const slab& s) {
    std::uint32_t out = 0;
    for (const range r : s.free) out = std::max(out, r.size());
    return out;
  }

  /// An empty slab more; its index.
  std::size_t add_slab() {
    slabs_.reserve(slabs_.size() + 1), room_.reserve(room_.size() + 1);
    slab fresh{{{0, static_cast<std::uint32_t>(slab_bytes)}}, nullptr};
    fresh.begin = static_cast<std::byte*>(map(slab_bytes));
    const auto at = std::find_if(slabs_.begin(), slabs_.end(), [&](const slab& s) { return s.begin > fresh.begin; });
    const auto i = at - slabs_.begin();
    slabs_.insert(at, std::move(fresh));
    room_.insert(room_.begin() + i, static_cast<std::uint32_t>(slab_bytes));
    ++empty_;
    return static_cast<std::size_t>(i);
  }
  void remove_slab(std::size_t i) {
    unmap(slabs_[i].begin, slab_bytes);
    slabs_.erase(slabs_.begin() + static_cast<std::ptrdiff_t>(i));
    room_.erase(room_.begin() + static_cast<std::ptrdiff_t>(i));
    --empty_;
  }

  /// Begins at a multiple of slab_bytes.
  void* map(std::size_t bytes) {
#if defined(__linux__)
    void* all = ::mmap(nullptr, bytes + slab_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) throw std::bad_alloc();
    auto* const first = static_cast<std::byte*>(all);
    const std::size_t before = (slab_bytes - reinterpret_cast<std::uintptr_t>(all) % slab_bytes) % slab_bytes;
    if (before > 0) ::munmap(first, before);
    if (before < slab_bytes) ::munmap(first + before + bytes, slab_bytes - before);
#if defined(MADV_HUGEPAGE)
    ::madvise(first + before, bytes, MADV_HUGEPAGE);
#endif
    void* p = first + before;
#else
    void* p = ::operator new (bytes, std::align_val_t{slab_bytes});
#endif
    held_ += bytes;
    return p;
  }
  void unmap(void* p, std::size_t bytes) {
#if defined(__linux__)
    ::munmap(p, bytes);
#else
    ::operator delete (p, std::align_val_t{slab_bytes});
#endif
    held_ -= bytes;
  }

  mutable std::mutex mutex_;
  std::vector<slab> slabs_;           // by address
  std::vector<std::uint32_t> room_;   // of each slab, the largest free range
  std::size_t held_ = 0, empty_ = 0;  // bytes; slabs without blocks
};

}  // namespace tersekv
