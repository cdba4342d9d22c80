// SPDX-License-Identifier: Apache-2.0
#include "compare.hpp"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>

#include "table.hpp"

namespace lab {
namespace {

std::string percent(double x, int decimals = 0) { return fixed(100 * x, decimals); }

std::string joined(const std::vector<int>& numbers) {
  std::string out;
  for (int n : numbers) out += (out.empty() ? "" : ", ") + std::to_string(n);
  return out;
}

}  // namespace

comparison compare(const workbench& bench, std::vector<std::string> recipes, const std::string& reference,
                   const perplexity_settings& perplexity, const passkey_settings& passkey, progress& says) {
  if (std::find(recipes.begin(), recipes.end(), reference) == recipes.end()) recipes.insert(recipes.begin(), reference);
  for (const std::string& recipe : recipes) bench.make(recipe);  // what is misspelt fails now, not after a minute
  check(bench, perplexity);
  check(bench, passkey);

  comparison c;
  c.reference = reference;
  c.dims = bench.model.dims;
  c.perplexity = perplexity;
  c.passkey = passkey;
  c.threads = bench.threads;
  const auto start = std::chrono::steady_clock::now();
  const auto texts = measure_perplexity(bench, recipes, reference, perplexity, says);
  const auto keys = measure_passkey(bench, recipes, passkey, says);
  c.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (std::size_t i = 0; i < recipes.size(); ++i) c.rows.push_back({recipes[i], texts[i], keys[i]});
  return c;
}

void print_settings(std::ostream& out, const comparison& c) {
  const perplexity_settings& p = c.perplexity;
  const bool half = p.feed == protocol::half_prompt;
  out << "model       " << c.model_name << ": " << c.dims.layers << " layers, dim " << c.dims.dim << ", "
      << c.dims.heads << " query heads, " << c.dims.kv_heads << " KV heads of " << c.dims.head_dim() << ", vocabulary "
      << c.dims.vocab << "\n"
      << "text        " << c.text_name << ": " << p.chunks << (p.chunks == 1 ? " chunk of " : " chunks of ")
      << p.context << " tokens; " << (half ? "the first half of each is one prompt" : "each fed token by token (P1)")
      << ", scored on the second half\n";
  if (p.prompt_piece > 0) out << "prompts     in pieces of " << p.prompt_piece << " tokens\n";
  if (c.has_passkey(true) || c.has_passkey(false))
    out << "passkey     " << c.passkey.lengths.size() * static_cast<std::size_t>(c.passkey.depths * c.passkey.trials)
        << " prompts: lengths " << joined(c.passkey.lengths) << "; " << c.passkey.depths << " depths, "
        << c.passkey.trials << (c.passkey.trials == 1 ? " trial" : " trials")
        << " each; 'seen': the question stood in the prompt when the cache was compressed\n";
  else
    out << "passkey     not measured\n";
  out << "took        " << fixed(c.seconds, 1) << " s on " << c.threads << (c.threads == 1 ? " thread" : " threads")
      << "; speeds are those of one thread while the others were busy\n";
}

void print_table(std::ostream& out, const comparison& c) {
  const bool seen = c.has_passkey(true), unseen = c.has_passkey(false);
  const bool prompts = c.perplexity.feed == protocol::half_prompt;
  text_table t;
  t.column("recipe", "");
  t.column("perplexity", c.perplexity.feed == protocol::every_token ? "(all)" : "");
  t.column("change", "%");
  t.column("KL mean", "nats");
  t.column("KL p99", "nats");
  t.column("same top", "%");
  if (seen) t.column("passkey", "seen %");
  if (unseen) t.column("passkey", "unseen %");
  t.column("rows kept", "%");
  t.column("bytes", "per token");
  t.column("smaller", "times");
  t.column("bits per", "number");
  if (prompts) t.column("prompt", "tokens/s");
  t.column("decode", "tokens/s");
  t.column("in cache", "us/token");
  for (const comparison::row& r : c.rows) {
    const perplexity_score& s = r.text.score;
    const cache_cost& k = r.text.cost;
    std::vector<std::string> cells = {r.recipe};
    cells.push_back(fixed(s.perplexity, 3) +
                    (s.perplexity_all > 0 ? " (" + fixed(s.perplexity_all, 3) + ")" : std::string{}));
    cells.push_back((s.change < 0 ? "" : "+") + percent(s.change, 2));
    cells.push_back(fixed(s.kl_mean, 4));
    cells.push_back(fixed(s.kl_p99, 3));
    cells.push_back(percent(s.same_top, 1));
    if (seen) cells.push_back(percent(r.passkey.exact(true)));
    if (unseen) cells.push_back(percent(r.passkey.exact(false)));
    cells.push_back(percent(k.kept, 1));
    cells.push_back(fixed(k.bytes_per_token, 0));
    cells.push_back(fixed(k.compression, 2));
    cells.push_back(fixed(k.bits_per_number, 2));
    if (prompts) cells.push_back(fixed(k.prompt_speed, 0));
    cells.push_back(fixed(k.decode_speed, 0));
    cells.push_back(fixed(k.decode_cache_time, 0));
    t.row(std::move(cells));
  }
  t.print(out);
}

void print_passkey_grids(std::ostream& out, const comparison& c) {
  const std::size_t depths = static_cast<std::size_t>(c.passkey.depths);
  for (const bool seen : {true, false}) {
    if (!c.has_passkey(seen)) continue;
    out << "\npasskey, question " << (seen ? "seen" : "unseen")
        << " when compressing: prompts answered exactly, % (digits, %), by depth of the line\n";
    text_table t;
    t.column("recipe", "");
    t.column("length", "tokens");
    for (std::size_t d = 0; d < depths; ++d)
      t.column(percent((static_cast<double>(d) + 0.5) / static_cast<double>(depths)) + " %", "deep");
    for (const comparison::row& r : c.rows) {
      std::vector<std::string> cells;
      for (const passkey_cell& cell : r.passkey.cells) {
        if (cell.seen != seen) continue;
        if (cells.empty()) cells = {r.recipe, std::to_string(cell.length)};
        cells.push_back(percent(static_cast<double>(cell.exact) / cell.prompts) + " (" +
                        percent(cell.digits / (5.0 * cell.prompts)) + ")");
        if (cells.size() == depths + 2) t.row(std::exchange(cells, {}));
      }
    }
    t.print(out);
  }
}

void write_json(std::ostream& out, const comparison& c) {
  using json = nlohmann::ordered_json;
  const perplexity_settings& p = c.perplexity;
  out << json{{"kind", "settings"},
              {"model", c.model_name},
              {"layers", c.dims.layers},
              {"query_heads", c.dims.heads},
              {"kv_heads", c.dims.kv_heads},
              {"head_dim", c.dims.head_dim()},
              {"text", c.text_name},
              {"protocol", p.feed == protocol::half_prompt ? "half_prompt" : "P1"},
              {"context", p.context},
              {"chunks", p.chunks},
              {"first_token", p.first_token},
              {"prompt_piece", p.prompt_piece},
              {"passkey_trials", c.passkey.trials},
              {"reference", c.reference},
              {"threads", c.threads},
              {"seconds", c.seconds}}
      << "\n";
  for (const comparison::row& r : c.rows) {
    const perplexity_score& s = r.text.score;
    const cache_cost& k = r.text.cost;
    json line{{"kind", "recipe"},
              {"recipe", r.recipe},
              {"perplexity", s.perplexity},
              {"perplexity_change", s.change},
              {"kl_mean", s.kl_mean},
              {"kl_p99", s.kl_p99},
              {"same_top", s.same_top},
              {"positions", s.positions},
              {"bytes_per_token", k.bytes_per_token},
              {"full_f16_bytes_per_token", k.full_bytes},
              {"compression", k.compression},
              {"bits_per_number", k.bits_per_number},
              {"rows_kept", k.kept},
              {"decode_tokens_per_second", k.decode_speed},
              {"decode_cache_microseconds", k.decode_cache_time}};
    if (s.perplexity_all > 0) line["perplexity_all"] = s.perplexity_all;
    if (k.prompt_speed > 0) line["prompt_tokens_per_second"] = k.prompt_speed;
    for (const bool seen : {true, false}) {
      if (!c.has_passkey(seen)) continue;
      json& key = line["passkey"][seen ? "seen" : "unseen"];
      key["exact"] = r.passkey.exact(seen);
      key["digits"] = r.passkey.digits(seen);
      for (const passkey_cell& cell : r.passkey.cells)
        if (cell.seen == seen)
          key["cells"].push_back({{"length", cell.length},
                                  {"depth", cell.depth},
                                  {"prompts", cell.prompts},
                                  {"bytes", cell.bytes},
                                  {"exact", cell.exact},
                                  {"digits", cell.digits}});
    }
    out << line << "\n";
  }
}

}  // namespace lab
