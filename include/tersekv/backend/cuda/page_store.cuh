// SPDX-License-Identifier: Apache-2.0
// The pages of all sequences of a cache on a device. Kernels take and drop pages by themselves; how many, the host does
// not know. It knows how many they may take at most, keeps as many in store, and looks at the real number only when it
// could run short: the one place where a decoding cache waits for the device, once in many tokens.
#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include <tersekv/backend/cuda/memory.cuh>
#include <tersekv/backend/cuda/pages.cuh>

namespace tersekv::detail {

class page_store {
 public:
  page_store(pool& memory, std::size_t page_bytes, cuda_stream stream)
      : memory_(memory), stream_(stream), page_bytes_(page_bytes), free_(memory), freed_(memory), counts_(memory) {}

  /// What kernels get. Valid until the next ensure().
  device_pool pages() const { return {free_.data(), counts_.data(), freed_.data(), counts_.data() + 1, page_bytes_}; }
  std::size_t page_bytes() const { return page_bytes_; }
  /// Changes whenever all commits so far are accounted for: promises made before count no longer.
  int epoch() const { return epoch_; }

  /// Kernels that are started from now on may take `n` more pages. Where that cannot be promised without looking, all
  /// promises end, a new epoch begins, and `anew` pages, at least `n`, are promised instead: returns true then.
  /// Errors  capacity_error; promises may have ended then
  bool ensure(int n, int anew) {
    if (n <= sure_) {
      sure_ -= n;
      lasts_ = lasts_ || n < anew;
      return false;
    }
    const bool lasted = std::exchange(lasts_, false);
    const int free = count_free(), ahead = std::max(total_ / 8, 64);
    if (free < anew) {
      if (!may_grow(free, std::max(anew - free, ahead))) grow(free, anew - free);
    } else if (!lasted && free < total_ / 4) {  // enough for each sequence, but not for all of them
      may_grow(free, ahead);
    }
    sure_ -= anew;
    return true;
  }

 private:
  int count_free() {
    int count = 0;
    if (counts_.size() > 0) {
      recycle_pages(pages(), stream_);
      copy_to_host(&count, counts_.data(), sizeof count, stream_);
    }
    sure_ = count;
    ++epoch_;  // also where growing fails: what others were promised is among these
    return count;
  }

  /// Whether there was memory for it.
  bool may_grow(int free, int more) {
    try {
      grow(free, more);
      return true;
    } catch (...) {
      forget_error();
      return false;
    }
  }
  void grow(int free, int more) {
    device_buffer<std::byte> slab(memory_, static_cast<std::size_t>(more) * page_bytes_);
    const auto total = static_cast<std::size_t>(total_ + more);
    device_buffer<std::byte*> all_free(memory_, total), all_freed(memory_, total);
    device_buffer<int> counts(memory_, 2);
    std::vector<std::byte*> fresh;
    for (int i = 0; i < more; ++i) fresh.push_back(slab.data() + static_cast<std::size_t>(i) * page_bytes_);
    const int both[2] = {free + more, 0};
    slabs_.reserve(slabs_.size() + 1);
    copy_on_device(all_free.data(), free_.data(), static_cast<std::size_t>(free) * sizeof(std::byte*), stream_);
    copy_to_device(all_free.data() + free, fresh.data(), fresh.size() * sizeof(std::byte*), stream_);
    copy_to_device(counts.data(), both, sizeof both, stream_);
    slabs_.push_back(std::move(slab));
    free_ = std::move(all_free), freed_ = std::move(all_freed), counts_ = std::move(counts);
    total_ += more;
    sure_ = free + more;
  }

  pool& memory_;
  cuda_stream stream_;
  std::size_t page_bytes_;
  std::vector<device_buffer<std::byte>> slabs_;
  device_buffer<std::byte*> free_, freed_;  // [total] stacks of pages; freed: not to be taken before they are recycled
  device_buffer<int> counts_;               // of both
  int total_ = 0, sure_ = 0, epoch_ = 0;
  bool lasts_ = false;  // somebody has been promised pages twice in this epoch
};

}  // namespace tersekv::detail
