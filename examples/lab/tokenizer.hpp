// SPDX-License-Identifier: Apache-2.0
//
// Text to tokens and back. Two kinds: bytes (vocabulary 256; byte 0 opens a text), and llama2.c tokenizer files
// (pieces with scores, merged best score first; token 1 opens a text; a byte that no piece covers is token byte + 3).
#pragma once
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lab {

struct tokenizer_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class tokenizer {
 public:
  static tokenizer bytes() { return {}; }
  static tokenizer load(const std::filesystem::path& file, int vocab);

  bool is_bytes() const { return pieces_.empty(); }
  int opening_token() const { return is_bytes() ? 0 : 1; }
  std::vector<int> encode(std::string_view text) const;  // without the opening token
  std::string decode(int token, bool first) const;  // `first`: the space that encode put before the text is left out

 private:
  std::vector<std::string> pieces_;  // [vocab], empty: tokens are bytes
  std::vector<float> scores_;        // [vocab]
  std::unordered_map<std::string, int> token_of_;
};

}  // namespace lab
