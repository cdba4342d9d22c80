// SPDX-License-Identifier: Apache-2.0
// Blocks of huge_pages never overlap, keep what was written, and what is freed goes back to the system.
#include <tersekv/huge_pages.hpp>

#include <cstring>
#include <map>
#include <new>
#include <random>
#include <thread>

#include "catch.hpp"
#include "support.hpp"

namespace kv = tersekv;

namespace huge_pages_test {

constexpr std::size_t slab = kv::huge_pages::slab_bytes;

struct block {
  std::size_t bytes, alignment;
  unsigned char mark;
};

/// Allocates and frees at random, and looks at all bytes of a block before it goes.
void use_at_random(kv::huge_pages& memory, unsigned seed, int rounds) {
  std::mt19937 draw(seed);
  std::map<unsigned char*, block> held;
  const auto number = [&](std::size_t below) { return static_cast<std::size_t>(draw()) % below; };
  const auto is_whole = [](const unsigned char* p, const block& b) {
    return b.bytes == 0 || (*p == b.mark && std::memcmp(p, p + 1, b.bytes - 1) == 0);
  };
  const auto give_back = [&](auto it) {
    REQUIRE(is_whole(it->first, it->second));
    memory.deallocate(it->first, it->second.bytes, it->second.alignment);
    held.erase(it);
  };
  for (int i = 0; i < rounds; ++i) {
    if (!held.empty() && number(100) < (i / 200 % 2 == 0 ? 40u : 60u)) {
      give_back(std::next(held.begin(), static_cast<std::ptrdiff_t>(number(held.size()))));
      continue;
    }
    constexpr std::size_t sizes[] = {0, 1, 63, 64, 65, 5000, 17000, 300000, slab / 2, slab / 2 + 1, slab + 1};
    const std::size_t often = number(12), bytes = often < std::size(sizes) ? sizes[often] : number(9000);
    const block b{bytes, number(50) == 0 ? 4096u : 64u, static_cast<unsigned char>(draw())};
    auto* p = static_cast<unsigned char*>(memory.allocate(b.bytes, b.alignment));
    REQUIRE(reinterpret_cast<std::uintptr_t>(p) % b.alignment == 0);
    std::memset(p, b.mark, b.bytes);
    const auto at = held.emplace(p, b);
    REQUIRE(at.second);
    if (at.first != held.begin()) {
      const auto before = std::prev(at.first);
      REQUIRE(before->first + before->second.bytes <= p);
    }
    if (const auto after = std::next(at.first); after != held.end()) REQUIRE(p + b.bytes <= after->first);
  }
  while (!held.empty()) give_back(held.begin());
}

TEST_CASE("blocks of any size never overlap and keep their bytes", "[memory]") {
  kv::huge_pages memory;
  CHECK(memory.held() == 0);
  use_at_random(memory, GENERATE(1u, 2u, 3u), 1500);
  CHECK(memory.held() <= slab);  // one empty slab stays
}

TEST_CASE("several threads share a huge_pages", "[memory]") {
  kv::huge_pages memory;
  std::vector<std::jthread> threads;
  std::atomic<int> done = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      std::vector<int*> mine;
      for (int i = 0; i < 2000; ++i) {
        mine.push_back(static_cast<int*>(memory.allocate(4000, 64)));
        *mine.back() = i;
        if (i % 3 == 0) memory.deallocate(mine.back(), 4000, 64), mine.pop_back();
      }
      int last = -1;
      bool in_order = true;
      for (int* p : mine) {
        in_order = in_order && *p > last;
        last = *p;
        memory.deallocate(p, 4000, 64);
      }
      done += in_order;
    });
  threads.clear();
  CHECK(done == 4);
  CHECK(memory.held() <= slab);
}

TEST_CASE("blocks of one size fill a slab, and an empty slab goes back", "[memory]") {
  kv::huge_pages memory;
  constexpr std::size_t size = 8192 + 64, of_slab = slab / size;
  std::vector<void*> blocks;
  for (std::size_t i = 0; i < 5 * of_slab; ++i) blocks.push_back(memory.allocate(size, 64));
  CHECK(memory.held() == 5 * slab);
  // Every other block of all slabs: nothing goes, and the room is used again.
  for (std::size_t i = 0; i < blocks.size(); i += 2) memory.deallocate(blocks[i], size, 64);
  CHECK(memory.held() == 5 * slab);
  for (std::size_t i = 0; i < blocks.size(); i += 2) blocks[i] = memory.allocate(size, 64);
  CHECK(memory.held() == 5 * slab);
  // All but one: the slab in which that one lies, and an empty one.
  for (std::size_t i = 1; i < blocks.size(); ++i) memory.deallocate(blocks[i], size, 64);
  CHECK(memory.held() == 2 * slab);
  memory.deallocate(blocks[0], size, 64);
  CHECK(memory.held() == slab);
}

TEST_CASE("what the system does not have is bad_alloc, and nothing is lost", "[memory]") {
  kv::huge_pages memory;
  void* p = memory.allocate(100, 64);
  const std::size_t before = memory.held();
  volatile std::size_t most = ~std::size_t{0};  // which the compiler would warn of
  CHECK_THROWS_AS(memory.allocate(most / 4, 64), std::bad_alloc);
  CHECK_THROWS_AS(memory.allocate(most - 5, 64), std::bad_alloc);
  CHECK_THROWS_AS(memory.allocate(100, 2 * slab), std::bad_alloc);
  CHECK(memory.held() == before);
  memory.deallocate(p, 100, 64);
}

TEST_CASE("a cache on huge pages computes the same and gives slabs back", "[memory]") {
  const kv::model_shape shape{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 128};
  test::stream s(shape, 1200, 9);
  const auto last_outputs = [&](std::pmr::memory_resource* memory, std::size_t* most) {
    kv::cpu backend;
    backend.memory = memory;
    auto cache = kv::make_cache(shape, backend, kv::dense<float>{});
    std::vector<std::vector<float>> out;
    std::vector<decltype(cache.open())> chats;
    for (int i = 0; i < 3; ++i) {  // more than a slab each
      chats.push_back(cache.open());
      auto prompt = chats.back().step(1190);
      prompt.append(0, s.keys(0, 0, 1190), s.values(0, 0, 1190));
      prompt.commit();
    }
    for (int i = 0; i < 3; ++i) out = test::feed(cache, chats.front(), s, 1);
    if (most) *most = static_cast<kv::huge_pages*>(memory)->held();
    return out;
  };
  kv::huge_pages memory;
  std::size_t most = 0;
  const auto got = last_outputs(&memory, &most);
  CHECK(got == last_outputs(std::pmr::new_delete_resource(), nullptr));
  CHECK(most >= 3 * slab);
  CHECK(memory.held() <= slab);
}

}  // namespace huge_pages_test
