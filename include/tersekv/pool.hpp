// SPDX-License-Identifier: Apache-2.0
// Where all bytes of a cache come from: counted pages and buffers over the caller's std::pmr::memory_resource.
// Pages are shared by reference count (forks); buffers belong to one owner and grow in steps, not by doubling, so that
// what is held stays close to what is used.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory_resource>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tersekv/error.hpp>

namespace tersekv {

class pool {
 public:
  static constexpr std::size_t alignment = 64;

  /// max_bytes: what pages, windows and columns may take together; 0 = no limit.
  pool(std::pmr::memory_resource* memory, std::size_t page_bytes, std::size_t max_bytes)
      : memory_(memory), page_bytes_(page_bytes), max_bytes_(max_bytes) {}
  pool(const pool&) = delete;
  pool& operator=(const pool&) = delete;
  ~pool() { give_back_reserve(); }

  std::size_t page_bytes() const { return page_bytes_; }
  std::size_t held() const { return held_.load(std::memory_order_relaxed); }
  std::size_t peak() const { return peak_.load(std::memory_order_relaxed); }
  std::size_t pages() const { return pages_.load(std::memory_order_relaxed); }

  void* allocate(std::size_t bytes) {
    const std::size_t now = held_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    if (max_bytes_ != 0 && now > max_bytes_) {
      held_.fetch_sub(bytes, std::memory_order_relaxed);
      throw capacity_error("tersekv::pool: " + std::to_string(bytes) + " more bytes would make " + std::to_string(now) +
                           ", but max_bytes is " + std::to_string(max_bytes_) +
                           "; nothing was changed: close or trim a sequence and try again");
    }
    try {
      void* p = memory_->allocate(bytes, alignment);
      std::size_t seen = peak_.load(std::memory_order_relaxed);
      while (now > seen && !peak_.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
      }
      return p;
    } catch (...) {
      held_.fetch_sub(bytes, std::memory_order_relaxed);
      throw;
    }
  }
  void deallocate(void* p, std::size_t bytes) noexcept {
    memory_->deallocate(p, bytes, alignment);
    held_.fetch_sub(bytes, std::memory_order_relaxed);
  }

  /// Sets `n` more pages aside, so that as many calls of take() cannot fail. All or nothing.
  void reserve(std::size_t n) {
    const std::size_t before = reserve_.size();
    try {
      reserve_.reserve(before + n);
      while (reserve_.size() < before + n) reserve_.push_back(allocate(page_bytes_));
      // Taken in the order of allocation, so mostly of addresses: processors fetch ahead of who reads upwards.
      std::reverse(reserve_.begin() + static_cast<std::ptrdiff_t>(before), reserve_.end());
    } catch (...) {
      give_back_reserve(before);
      throw;
    }
  }
  void* take() noexcept {
    void* p = reserve_.back();
    reserve_.pop_back();
    pages_.fetch_add(1, std::memory_order_relaxed);
    return p;
  }
  void drop(void* page) noexcept {
    pages_.fetch_sub(1, std::memory_order_relaxed);
    deallocate(page, page_bytes_);
  }
  /// Gives pages back that were set aside and not taken, down to `keep`.
  void give_back_reserve(std::size_t keep = 0) noexcept {
    for (; reserve_.size() > keep; reserve_.pop_back()) deallocate(reserve_.back(), page_bytes_);
  }
  /// Held while pages are set aside and taken: sequences of one cache may commit on different threads.
  std::mutex commits;

 private:
  std::pmr::memory_resource* memory_;
  std::size_t page_bytes_, max_bytes_;
  std::atomic<std::size_t> held_{0}, peak_{0}, pages_{0};
  std::vector<void*> reserve_;
};

/// A counted reference to a page. Its bytes may be written only while `alone()`.
class page_ref {
 public:
  page_ref() = default;
  /// Takes a reserved page of `owner`.
  explicit page_ref(pool& owner) noexcept : head_(new (owner.take()) header{&owner, 1}) {}
  page_ref(const page_ref& other) noexcept : head_(other.head_) {
    if (head_) head_->count.fetch_add(1, std::memory_order_relaxed);
  }
  page_ref(page_ref&& other) noexcept : head_(std::exchange(other.head_, nullptr)) {}
  page_ref& operator=(page_ref other) noexcept {
    std::swap(head_, other.head_);
    return *this;
  }
  ~page_ref() {
    if (head_ && head_->count.fetch_sub(1, std::memory_order_acq_rel) == 1) head_->owner->drop(head_);
  }

  bool alone() const { return head_->count.load(std::memory_order_acquire) == 1; }
  std::byte* data() const { return reinterpret_cast<std::byte*>(head_) + pool::alignment; }
  /// Bytes of a page that are not payload.
  static constexpr std::size_t overhead = pool::alignment;

 private:
  struct header {
    pool* owner;
    std::atomic<int> count;
  };
  static_assert(sizeof(header) <= pool::alignment);
  header* head_ = nullptr;
};

/// An array whose bytes are counted by the pool. Capacity is exact: it changes only in reserve() and fit().
template <class T>
class buffer {
  static_assert(std::is_nothrow_move_constructible_v<T>);

 public:
  explicit buffer(pool& owner) : owner_(&owner) {}
  buffer(const buffer& other) : owner_(other.owner_) {
    reserve(other.size_);
    for (; size_ < other.size_; ++size_) new (data_ + size_) T(other.data_[size_]);
  }
  buffer(buffer&& other) noexcept
      : owner_(other.owner_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  buffer& operator=(buffer other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~buffer() {
    clear();
    release();
  }

  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  std::size_t held() const { return capacity_ * sizeof(T); }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  const T& back() const { return data_[size_ - 1]; }

  /// Room for `n` elements in all.
  void reserve(std::size_t n) {
    if (n > capacity_) relocate(n);
  }
  /// Gives back what exceeds `n` elements (never below size). Best effort: an allocator that refuses is no error here.
  void fit(std::size_t n) noexcept {
    if (n < size_) n = size_;
    if (n >= capacity_) return;
    try {
      relocate(n);
    } catch (...) {
    }
  }
  /// The following need room reserved before, and cannot fail.
  void push_back(T value) noexcept { new (data_ + size_++) T(std::move(value)); }
  void append(const T* from, std::size_t n) noexcept {
    if constexpr (std::is_trivially_copyable_v<T>) {
      if (n > 0) std::memcpy(data_ + size_, from, n * sizeof(T));
      size_ += n;
    } else {
      for (std::size_t i = 0; i < n; ++i) push_back(from[i]);
    }
  }
  /// New elements are uninitialised for trivial types.
  void resize(std::size_t n) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    size_ = n;
  }
  void erase(std::size_t first, std::size_t count) noexcept {
    if (count == 0) return;
    if constexpr (std::is_trivially_copyable_v<T>)
      std::memmove(data_ + first, data_ + first + count, (size_ - first - count) * sizeof(T));
    else
      for (std::size_t i = first; i + count < size_; ++i) data_[i] = std::move(data_[i + count]);
    truncate(size_ - count);
  }
  void truncate(std::size_t n) noexcept {
    if constexpr (std::is_trivially_copyable_v<T>)
      size_ = std::min(size_, n);
    else
      while (size_ > n) data_[--size_].~T();
  }
  void clear() noexcept { truncate(0); }

 private:
  void relocate(std::size_t n) {
    T* fresh = n == 0 ? nullptr : static_cast<T*>(owner_->allocate(n * sizeof(T)));
    if constexpr (std::is_trivially_copyable_v<T>) {
      if (size_ > 0) std::memcpy(fresh, data_, size_ * sizeof(T));
    } else {
      for (std::size_t i = 0; i < size_; ++i) {
        new (fresh + i) T(std::move(data_[i]));
        data_[i].~T();
      }
    }
    release();
    data_ = fresh;
    capacity_ = n;
  }
  void release() noexcept {
    if (data_) owner_->deallocate(data_, capacity_ * sizeof(T));
    data_ = nullptr;
    capacity_ = 0;
  }

  pool* owner_;
  T* data_ = nullptr;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace tersekv
