// SPDX-License-Identifier: Apache-2.0
// Whatever a file holds, loading ends with a model or with one sentence.
#include "checkpoint.hpp"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "catch.hpp"

namespace checkpoint_test {

namespace fs = std::filesystem;

fs::path write(const std::string& bytes) {
  const fs::path file = fs::temp_directory_path() / "tersekv_checkpoint_test.bin";
  std::ofstream(file, std::ios::binary) << bytes;
  return file;
}

/// A tiny legacy checkpoint: dim 8, hidden 12, 2 layers, 2 heads, 1 KV head, 16 tokens, context 4.
std::string legacy() {
  const std::int32_t dims[7] = {8, 12, 2, 2, 1, 16, 4};
  std::string out(reinterpret_cast<const char*>(dims), sizeof dims);
  // embedding, 2 x (norm, q, k, v, o, norm, w1, w2, w3), final norm, rotary tables [4, 2] twice
  const int numbers = 16 * 8 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 96 + 96 + 96) + 8 + 2 * 4 * 2;
  for (int i = 0; i < numbers; ++i) {
    const float x = 0.01f * static_cast<float>(i % 37) - 0.2f;
    out.append(reinterpret_cast<const char*>(&x), sizeof x);
  }
  return out;
}

std::string sentence(const std::string& bytes) {
  try {
    lab::load_model(write(bytes));
  } catch (const lab::checkpoint_error& e) {
    return e.what();
  }
  return "";
}

TEST_CASE("a whole checkpoint loads with the dimensions of its header", "[lab]") {
  const lab::model m = lab::load_model(write(legacy()));
  CHECK(m.dims.dim == 8);
  CHECK(m.dims.layers == 2);
  CHECK(m.dims.kv_heads == 1);
  CHECK(m.dims.head_dim() == 4);
  CHECK(m.embedding.size() == 128);
  CHECK(m.embedding[1] == Approx(-0.19f));
}

TEST_CASE("an absent, empty, foreign or truncated checkpoint gives a sentence", "[lab]") {
  CHECK_THROWS_AS(lab::load_model("there/is/no/such/file.bin"), lab::checkpoint_error);
  CHECK_FALSE(sentence("").empty());
  CHECK_FALSE(sentence("GGUF and something else that is no checkpoint at all, but long enough for a header").empty());
  const std::string whole = legacy();
  for (std::size_t n :
       {std::size_t{1}, std::size_t{27}, std::size_t{28}, std::size_t{100}, whole.size() / 2, whole.size() - 100})
    CHECK_FALSE(sentence(whole.substr(0, n)).empty());
}

TEST_CASE("no mutation of a header crashes, hangs or allocates beyond the file", "[lab]") {
  const std::string whole = legacy();
  std::mt19937 engine(1);
  for (int trial = 0; trial < 3000; ++trial) {
    std::string bytes = whole;
    for (int flips = 1 + static_cast<int>(engine() % 4); flips > 0; --flips)
      bytes[engine() % 64] = static_cast<char>(engine());
    if (trial % 3 == 0) {
      const std::uint32_t magic = 0x616b3432;  // read it as version 1 or 2
      std::memcpy(bytes.data(), &magic, 4);
      bytes[4] = static_cast<char>(1 + trial % 2), bytes[5] = bytes[6] = bytes[7] = 0;
    }
    if (trial % 5 == 0) bytes.resize(engine() % bytes.size());
    try {
      lab::load_model(write(bytes));
    } catch (const lab::checkpoint_error& e) {
      REQUIRE(std::strlen(e.what()) > 10);
    }
  }
}

}  // namespace checkpoint_test
