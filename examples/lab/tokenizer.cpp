// SPDX-License-Identifier: Apache-2.0
#include "tokenizer.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <queue>

namespace lab {
namespace {

constexpr int first_byte_token = 3;  // after unknown, begin, end
constexpr int fewest_pieces = first_byte_token + 256;
constexpr std::int32_t longest_piece = 4096;

std::size_t utf8_length(std::string_view s) {
  const auto lead = static_cast<unsigned char>(s[0]);
  const std::size_t n = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return std::min(n, s.size());
}

}  // namespace

tokenizer tokenizer::load(const std::filesystem::path& file, int vocab) {
  std::error_code ignored;
  std::ifstream in(file, std::ios::binary);
  if (!in || !std::filesystem::is_regular_file(file, ignored))
    throw tokenizer_error("There is no tokenizer file '" + file.string() + "'.");
  const auto number = [&]<class T>(T& x) {
    in.read(reinterpret_cast<char*>(&x), sizeof x);
    return in.good();
  };
  tokenizer t;
  std::int32_t longest = 0;
  bool whole = vocab >= fewest_pieces && number(longest);
  for (int i = 0; i < vocab && whole; ++i) {
    float score = 0;
    std::int32_t length = 0;
    whole = number(score) && number(length) && std::isfinite(score) && length >= 0 && length <= longest_piece;
    if (!whole) break;
    std::string piece(static_cast<std::size_t>(length), '\0');
    in.read(piece.data(), length);
    whole = in.good();
    t.token_of_.emplace(piece, i);
    t.pieces_.push_back(std::move(piece));
    t.scores_.push_back(score);
  }
  if (!whole || in.peek() != std::ifstream::traits_type::eof())
    throw tokenizer_error("'" + file.string() + "' is not a llama2.c tokenizer of " + std::to_string(vocab) +
                          " pieces, the model's vocabulary.");
  return t;
}

std::vector<int> tokenizer::encode(std::string_view text) const {
  std::vector<int> tokens;
  if (is_bytes()) {
    for (char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  if (text.empty()) return tokens;
  const std::string padded = " " + std::string(text);
  for (std::string_view rest = padded; !rest.empty();) {  // characters, or their bytes where no piece is one
    const std::string_view c = rest.substr(0, utf8_length(rest));
    if (auto known = token_of_.find(std::string(c)); known != token_of_.end())
      tokens.push_back(known->second);
    else
      for (char byte : c) tokens.push_back(static_cast<unsigned char>(byte) + first_byte_token);
    rest.remove_prefix(c.size());
  }

  // Merge the neighbours whose joint piece scores best, leftmost first, until none is a piece. A queue of
  // candidates over a linked list gives the same result as a search of the whole text after each merge.
  struct candidate {
    float score;
    int left, right, left_token, right_token, token;
    bool operator<(const candidate& o) const { return score != o.score ? score < o.score : left > o.left; }
  };
  const int end = static_cast<int>(tokens.size());
  const auto at = [](int i) { return static_cast<std::size_t>(i); };
  std::vector<int> next(tokens.size()), previous(tokens.size());
  for (int i = 0; i < end; ++i) next[at(i)] = i + 1, previous[at(i)] = i - 1;
  std::priority_queue<candidate> queue;
  const auto consider = [&](int left, int right) {
    if (left < 0 || right >= end) return;
    const int a = tokens[at(left)], b = tokens[at(right)];
    const auto joint = token_of_.find(pieces_[at(a)] + pieces_[at(b)]);
    if (joint != token_of_.end()) queue.push({scores_[at(joint->second)], left, right, a, b, joint->second});
  };
  for (int i = 0; i + 1 < end; ++i) consider(i, i + 1);
  constexpr int gone = -1;
  while (!queue.empty()) {
    const candidate c = queue.top();
    queue.pop();
    if (tokens[at(c.left)] != c.left_token || tokens[at(c.right)] != c.right_token || next[at(c.left)] != c.right)
      continue;  // one side has merged with another neighbour meanwhile
    tokens[at(c.left)] = c.token;
    tokens[at(c.right)] = gone;
    next[at(c.left)] = next[at(c.right)];
    if (next[at(c.left)] < end) previous[at(next[at(c.left)])] = c.left;
    consider(previous[at(c.left)], c.left);
    consider(c.left, next[at(c.left)]);
  }
  std::erase(tokens, gone);
  return tokens;
}

std::string tokenizer::decode(int token, bool first) const {
  if (is_bytes()) return token == 0 ? std::string{} : std::string(1, static_cast<char>(token));
  const auto i = static_cast<std::size_t>(token);
  if (token <= 2) return {};
  if (token < first_byte_token + 256 && pieces_[i].starts_with("<0x"))
    return std::string(1, static_cast<char>(token - first_byte_token));
  return first && pieces_[i].starts_with(' ') ? pieces_[i].substr(1) : pieces_[i];
}

}  // namespace lab
