// SPDX-License-Identifier: Apache-2.0
// The heap of gpu_tests, which itself runs where a GPU is.
#include "gpu/heap.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "catch.hpp"

namespace gpu_heap_test {

constexpr std::size_t all = std::size_t{1} << 20;

/// A range that begins where alignments are not met by chance: 256 behind a multiple of 4096.
struct room {
  std::byte* begin = static_cast<std::byte*>(std::aligned_alloc(4096, all + 4096)) + gpu::heap::granule;
  ~room() { std::free(begin - gpu::heap::granule); }
};

TEST_CASE("the heap gives all that it has, and again when it came back in any order", "[gpu]") {
  const room r;
  gpu::heap heap(r.begin, all);
  for (unsigned seed = 0; seed < 4; ++seed) {
    std::vector<void*> pieces;
    while (void* p = heap.take(1000)) pieces.push_back(p);
    CHECK(pieces.size() == all / 1024);
    std::shuffle(pieces.begin(), pieces.end(), std::mt19937(seed));
    for (void* p : pieces) heap.give_back(p);
    void* whole = heap.take(all);
    REQUIRE(whole == r.begin);
    CHECK(heap.take(1) == nullptr);
    heap.give_back(whole);
  }
}

TEST_CASE("pieces of the heap are aligned as wished and do not overlap", "[gpu]") {
  const room r;
  gpu::heap heap(r.begin, all);
  struct piece {
    unsigned char* data;
    std::size_t bytes;
    unsigned char mark;
  };
  std::vector<piece> pieces;
  std::mt19937 draw(1);
  for (int i = 0; i < 4000; ++i) {
    if (draw() % 2 == 0 || pieces.empty()) {
      const std::size_t bytes = draw() % 3000, alignment = std::size_t{1} << draw() % 14;
      auto* p = static_cast<unsigned char*>(heap.take(bytes, alignment));
      if (!p) continue;
      REQUIRE(heap.has(p));
      REQUIRE(reinterpret_cast<std::uintptr_t>(p) % std::max(alignment, gpu::heap::granule) == 0);
      pieces.push_back({p, bytes, static_cast<unsigned char>(i)});
      std::memset(p, pieces.back().mark, bytes);
    } else {
      std::swap(pieces[draw() % pieces.size()], pieces.back());
      const piece last = pieces.back();
      REQUIRE(std::all_of(last.data, last.data + last.bytes, [&](unsigned char c) { return c == last.mark; }));
      heap.give_back(last.data);
      pieces.pop_back();
    }
  }
  for (const piece& p : pieces) heap.give_back(p.data);
  CHECK(heap.take(all) == r.begin);
}

TEST_CASE("what the heap has no room for is null", "[gpu]") {
  const room r;
  gpu::heap heap(r.begin, all);
  CHECK(heap.take(all + 1) == nullptr);
  CHECK(heap.take(~std::size_t{0}) == nullptr);
  CHECK(heap.take(all, 4096) == nullptr);
  CHECK_FALSE(heap.has(r.begin + all));
}

}  // namespace gpu_heap_test
